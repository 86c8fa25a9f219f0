//! Settings that etcd does not have. They have a `RUSD_` variable, and no `ETCD_` one.

use super::Section::Rusd;
use super::Status::Works;
use super::{Flag, flag};
use crate::config::StorageEngine;
use crate::config::value::Kind::{Bool, Choice, Duration, Text, Uint};

pub(super) const FLAGS: &[Flag] = &[
    flag(
        "storage-engine",
        Rusd,
        Choice(StorageEngine::WORDS),
        StorageEngine::Sled.as_str(),
        Works,
        "Storage engine: sled keeps the working set in memory, redb also serves data larger than memory.",
    ),
    flag(
        "engine-cache-bytes",
        Rusd,
        Uint(64),
        "0",
        Works,
        "Memory for the engine's cache. 0: the engine's own default. Give sled enough for the working set.",
    ),
    flag(
        "engine-persist-bytes",
        Rusd,
        Uint(64),
        "67108864",
        Works,
        "Bytes written to the engine after which it is made durable and the log can be cut.",
    ),
    flag(
        "engine-persist-interval",
        Rusd,
        Duration,
        "5s",
        Works,
        "Idle time after which what was written to the engine is made durable.",
    ),
    flag(
        "checkpoint-interval",
        Rusd,
        Duration,
        "24h",
        Works,
        "Longest time between two checkpoints: copies of the data from which, with the log kept from there on, damaged \
         storage is rebuilt at the next start. Takes the space of the data once more, twice while the next one is made, \
         and that of the log: up to 128 MiB or half the size of the data, at most twice that. 0: none, and damage means \
         restoring a backup.",
    ),
    flag(
        "raft-inline-append",
        Rusd,
        Bool,
        "true",
        Works,
        "Let the Raft thread write the log itself when it is idle and the sole voter: one thread hop less per write.",
    ),
    flag(
        "raft-log-segment-bytes",
        Rusd,
        Uint(64),
        "33554432",
        Works,
        "Size of one file of the Raft log.",
    ),
    flag(
        "reader-threads",
        Rusd,
        Uint(32),
        "2",
        Works,
        "Threads that serve large ranges, history and hashes beside the writer.",
    ),
    flag(
        "watch-ring-bytes",
        Rusd,
        Uint(64),
        "8388608",
        Works,
        "Memory for the most recent events, from which watchers catch up without reading the engine.",
    ),
    flag(
        "report-version",
        Rusd,
        Text,
        "3.7.1",
        Works,
        "Version of etcd to report to clients and tools: 3.6.x or 3.7.x.",
    ),
];
