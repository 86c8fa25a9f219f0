//! The rows: name, kind, default, what giving it does, what it is.

use super::Status::{Moot, NoEffect, NotBuilt, Works};
use super::{Flag, Section};
use crate::config::value::Kind::{
    Bool, Choice, Duration, Gates, Int, List, Origins, Text, Uint, Urls, Word,
};
use crate::config::{
    InitialClusterState, LogFormat, LogLevel, MetricsDetail, RetentionMode, StorageEngine,
};

const ONE_MEMBER_LOG: &str =
    "the log is cut by what the storage engine has persisted, and no follower catches up from it";
const NO_PEERS: &str = "a single member has no peer connections";
const BATCHES: &str =
    "the engine is written in runs of committed entries, after the log made them durable";
const DISCOVERY: &str = "discovery is";
const V2_DISCOVERY: &str = "v2 discovery, which etcd 3.7 has removed, is";
const DNS: &str = "DNS discovery is";
const TLS: &str = "TLS is";
const PEER_TLS: &str = "TLS between members is";
const AUTH: &str = "authentication is";
const TRACING: &str = "distributed tracing is";
const NOBODY_TO_COMPARE: &str = "a single member has nobody to compare itself with";
const V2_DEPRECATION: &[&str] = &[
    "",
    "write-only",
    "write-only-skip-check",
    "write-only-drop-data",
    "gone",
];
const ROTATION: &str =
    r#"{"maxsize":100,"maxage":0,"maxbackups":0,"localtime":false,"compress":false}"#;

/// Sections of rows `name, kind, default, status, help;`.
macro_rules! sections {
    ($($section:ident { $($name:literal, $kind:expr, $default:expr, $status:expr, $help:literal;)+ })+) => {
        &[$($(Flag {
            name: $name,
            section: Section::$section,
            kind: $kind,
            default: $default,
            status: $status,
            help: $help,
        }),+),+]
    };
}

pub(super) const TABLE: &[Flag] = sections! {
    Member {
        "name", Text, "default", Works, "Human-readable name of this member.";
        "data-dir", Text, "", Works,
            "Directory of everything that the member keeps; made with mode 0700. Empty: the member's name \
             followed by .etcd.";
        "wal-dir", Text, "", Works,
            "Directory of the Raft log, if it should live on another disk. Empty: inside the data directory.";
        "snapshot-count", Uint(64), "10000", NoEffect(ONE_MEMBER_LOG),
            "Number of applied entries that trigger a snapshot to disk.";
        "snapshot-catchup-entries", Uint(64), "5000", NoEffect(ONE_MEMBER_LOG),
            "Number of log entries kept for slow followers.";
        "heartbeat-interval", Uint(32), "100", Works, "Time between heartbeats in milliseconds.";
        "election-timeout", Uint(32), "1000", Works,
            "Time without a leader after which an election starts, in milliseconds. At least 5 heartbeats, at \
             most 50000.";
        "initial-election-tick-advance", Bool, "true", Moot("a sole voter campaigns at once"),
            "Whether to shorten the wait before the first election.";
        "listen-peer-urls", Urls, "http://localhost:2380", Moot(NO_PEERS), "URLs to listen on for other members.";
        "listen-client-urls", Urls, "http://localhost:2379", Works,
            "URLs to listen on for clients: IP addresses, localhost or unix sockets. Port 0 picks a free port.";
        "listen-client-http-urls", Urls, "", Works,
            "URLs to listen on for HTTP only; listen-client-urls then serve gRPC only.";
        "max-snapshots", Uint(64), "5", NoEffect("there are no snapshot files to retain"),
            "Number of snapshot files to keep.";
        "max-wals", Uint(64), "5", NoEffect("the log recycles its own files"), "Number of log files to keep.";
        "memory-mlock", Bool, "false", NotBuilt("locking memory is"),
            "Keep the memory of the member from being swapped out.";
        "quota-backend-bytes", Int, "0", Works,
            "Size of the data above which writes are refused with NOSPACE. 0: 2 GiB. Negative: no limit.";
        "backend-bbolt-freelist-type", Text, "map", NoEffect("there is no bbolt file"),
            "Kind of free list of a bbolt database.";
        "backend-batch-interval", Duration, "0s", NoEffect(BATCHES), "Longest time before the backend commits.";
        "backend-batch-limit", Int, "0", NoEffect(BATCHES), "Most operations before the backend commits.";
        "max-txn-ops", Uint(32), "128", Works, "Most operations in one transaction.";
        "max-request-bytes", Uint(32), "1572864", Works, "Largest client request in bytes.";
        "max-concurrent-streams", Uint(32), "4294967295", Works,
            "Most streams that a client connection may have open.";
        "grpc-keepalive-min-time", Duration, "5s", Works, "Shortest interval at which a client may ping the server.";
        "grpc-keepalive-interval", Duration, "2h", Works,
            "Interval at which the server pings an idle client. 0: never.";
        "grpc-keepalive-timeout", Duration, "20s", Works,
            "Time after an unanswered ping before the connection is closed. 0: never.";
        "socket-reuse-port", Bool, "false", Works, "Set SO_REUSEPORT on the listeners.";
        "socket-reuse-address", Bool, "false", Works, "Set SO_REUSEADDR on the listeners.";
        "enable-grpc-gateway", Bool, "true", NoEffect("the JSON gateway is not part of this build"),
            "Serve the JSON gateway.";
        "raft-read-timeout", Duration, "5s", Moot(NO_PEERS), "Read timeout of peer connections; at least 5s.";
        "raft-write-timeout", Duration, "5s", Moot(NO_PEERS), "Write timeout of peer connections; at least 5s.";
        "feature-gates", Gates, "", Works, "Feature gates to switch, as A=true,B=false.";
    }
    Clustering {
        "initial-advertise-peer-urls", Urls, "http://localhost:2380", Works,
            "This member's peer URLs as others are told; they go into the ids of the member and the cluster.";
        "initial-cluster", Text, "default=http://localhost:2380", Works,
            "Members of a new cluster as name=url,...; a name may repeat for several URLs. In this build: this \
             member alone.";
        "initial-cluster-state", Choice(InitialClusterState::WORDS), InitialClusterState::New.as_str(), Works,
            "Whether a member without data starts a new cluster or joins an existing one. Joining is not part of \
             this build.";
        "initial-cluster-token", Text, "etcd-cluster", Works,
            "Text that goes into the ids of the cluster and its members, so that two clusters never mix.";
        "advertise-client-urls", Urls, "http://localhost:2379", Works,
            "This member's client URLs as clients are told. Required when listen-client-urls is given.";
        "discovery", Text, "", NotBuilt(V2_DISCOVERY), "URL of a v2 discovery service.";
        "discovery-proxy", Text, "", NotBuilt(V2_DISCOVERY), "Proxy to a v2 discovery service.";
        "discovery-fallback", Choice(&["exit", "proxy"]), "exit", NotBuilt("the v2 proxy is"),
            "What to do when discovery fails.";
        "discovery-token", Text, "", NotBuilt(DISCOVERY), "Token of the cluster in the discovery service.";
        "discovery-endpoints", List, "", NotBuilt(DISCOVERY), "Endpoints of the discovery service.";
        "discovery-dial-timeout", Duration, "2s", NotBuilt(DISCOVERY), "Time to connect to the discovery service.";
        "discovery-request-timeout", Duration, "5s", NotBuilt(DISCOVERY), "Time for a discovery request.";
        "discovery-keepalive-time", Duration, "2s", NotBuilt(DISCOVERY),
            "Interval of pings to the discovery service.";
        "discovery-keepalive-timeout", Duration, "6s", NotBuilt(DISCOVERY),
            "Time for the discovery service to answer a ping.";
        "discovery-insecure-transport", Bool, "true", NotBuilt(DISCOVERY),
            "Talk to the discovery service without TLS.";
        "discovery-insecure-skip-tls-verify", Bool, "false", NotBuilt(DISCOVERY),
            "Do not verify the discovery service's certificate.";
        "discovery-cert", Text, "", NotBuilt(DISCOVERY), "Certificate to show to the discovery service.";
        "discovery-key", Text, "", NotBuilt(DISCOVERY), "Key of that certificate.";
        "discovery-cacert", Text, "", NotBuilt(DISCOVERY),
            "Authority that the discovery service's certificate must come from.";
        "discovery-user", Text, "", NotBuilt(DISCOVERY), "User at the discovery service.";
        "discovery-password", Text, "", NotBuilt(DISCOVERY), "Password at the discovery service.";
        "discovery-srv", Text, "", NotBuilt(DNS), "Domain whose SRV records name the members.";
        "discovery-srv-name", Text, "", NotBuilt(DNS), "Suffix of the SRV service name.";
        "strict-reconfig-check", Bool, "true", Moot("the membership of a single member does not change"),
            "Refuse membership changes that would lose the quorum.";
        "pre-vote", Bool, "true", Works, "Ask for votes before disturbing a leader with a new term.";
        "auto-compaction-mode", Word(RetentionMode::WORDS), RetentionMode::Periodic.as_str(), Works,
            "Whether auto-compaction-retention is a time or a number of revisions.";
        "auto-compaction-retention", Text, "0", Works,
            "History to keep: a duration, a number of hours, or a number of revisions. 0: no automatic compaction.";
        "v2-deprecation", Choice(V2_DEPRECATION), "write-only", NoEffect("there is no v2 store"),
            "Stage of the removal of the v2 store.";
    }
    Security {
        "cert-file", Text, "", NotBuilt(TLS), "Certificate of the client listeners.";
        "key-file", Text, "", NotBuilt(TLS), "Key of that certificate.";
        "client-cert-file", Text, "", NotBuilt(TLS), "Certificate that the server shows as a client.";
        "client-key-file", Text, "", NotBuilt(TLS), "Key of that certificate.";
        "client-cert-auth", Bool, "false", NotBuilt(TLS), "Require certificates of clients.";
        "client-crl-file", Text, "", NotBuilt(TLS), "Revocation list for clients' certificates.";
        "client-cert-allowed-hostname", List, "", NotBuilt(TLS), "Host names accepted in clients' certificates.";
        "trusted-ca-file", Text, "", NotBuilt(TLS), "Authority that clients' certificates must come from.";
        "auto-tls", Bool, "false", NotBuilt(TLS), "Make certificates for the client listeners.";
        "peer-cert-file", Text, "", NotBuilt(PEER_TLS), "Certificate of the peer listeners.";
        "peer-key-file", Text, "", NotBuilt(PEER_TLS), "Key of that certificate.";
        "peer-client-cert-file", Text, "", NotBuilt(PEER_TLS), "Certificate shown to other members.";
        "peer-client-key-file", Text, "", NotBuilt(PEER_TLS), "Key of that certificate.";
        "peer-client-cert-auth", Bool, "false", NotBuilt(PEER_TLS), "Require certificates of other members.";
        "peer-trusted-ca-file", Text, "", NotBuilt(PEER_TLS), "Authority that members' certificates must come from.";
        "peer-crl-file", Text, "", NotBuilt(PEER_TLS), "Revocation list for members' certificates.";
        "peer-cert-allowed-cn", List, "", NotBuilt(PEER_TLS), "Common names accepted in members' certificates.";
        "peer-cert-allowed-hostname", List, "", NotBuilt(PEER_TLS), "Host names accepted in members' certificates.";
        "peer-auto-tls", Bool, "false", NotBuilt(PEER_TLS), "Make certificates for the peer listeners.";
        "peer-skip-client-san-verification", Bool, "false", NotBuilt(PEER_TLS),
            "Do not match members' certificates to their addresses.";
        "self-signed-cert-validity", Uint(32), "1", NotBuilt(TLS), "Years for which made certificates are valid.";
        "cipher-suites", List, "", NotBuilt(TLS), "Cipher suites to accept.";
        "tls-min-version", Word(&["", "TLS1.2", "TLS1.3"]), "TLS1.2", NotBuilt(TLS), "Lowest TLS version to accept.";
        "tls-max-version", Word(&["", "TLS1.2", "TLS1.3"]), "", NotBuilt(TLS), "Highest TLS version to accept.";
        "cors", Origins, "*", Works, "Origins allowed to call the HTTP endpoints from a browser. * or empty: all.";
        "host-whitelist", List, "*", Works, "Host names accepted in plain HTTP requests. * or empty: all.";
        "auth-token", Text, "simple", NotBuilt(AUTH), "Kind of authentication tokens and its options.";
        "bcrypt-cost", Uint(32), "10", NotBuilt(AUTH), "Cost of hashing passwords.";
        "auth-token-ttl", Uint(32), "300", NotBuilt(AUTH), "Seconds for which a simple token is valid.";
    }
    Monitoring {
        "enable-pprof", Bool, "false", NotBuilt("profiling over HTTP is"), "Serve profiles of the process over HTTP.";
        "metrics", Word(MetricsDetail::WORDS), MetricsDetail::Basic.as_str(), Works,
            "Detail of the metrics; extensive adds histograms of how long gRPC calls take.";
        "listen-metrics-urls", Urls, "", Works, "URLs to listen on for metrics and health checks only.";
        "logger", Word(&["zap"]), "zap", Works, "Kind of structured log; zap is the only one.";
        "log-outputs", List, "default", Works,
            "Where log lines go: stderr, stdout or file paths. default is stderr and stands alone.";
        "log-level", Choice(LogLevel::WORDS), LogLevel::Info.as_str(), Works,
            "Lowest level of lines that are logged.";
        "log-format", Word(LogFormat::WORDS), LogFormat::Json.as_str(), Works,
            "Form of a log line: json, console (tab-separated, as etcd prints it) or text (key=value).";
        "enable-log-rotation", Bool, "false", Works, "Rotate the log file; needs exactly one file in log-outputs.";
        "log-rotation-config-json", Text, ROTATION, Works,
            "When to rotate: size in MB, age in days and number of old files (0: no limit). Times are UTC and old \
             files are not compressed.";
        "warning-unary-request-duration", Duration, "300ms", Works,
            "Time above which a unary request is logged as slow.";
        "warning-apply-duration", Duration, "100ms", Works, "Time above which applying an entry is logged as slow.";
        "enable-distributed-tracing", Bool, "false", NotBuilt(TRACING), "Send OpenTelemetry traces.";
        "distributed-tracing-address", Text, "localhost:4317", NotBuilt(TRACING), "Address of the trace collector.";
        "distributed-tracing-service-name", Text, "etcd", NotBuilt(TRACING), "Service name in traces.";
        "distributed-tracing-instance-id", Text, "", NotBuilt(TRACING), "Instance id in traces.";
        "distributed-tracing-sampling-rate", Int, "0", NotBuilt(TRACING), "Traces to sample per million.";
    }
    Features {
        "corrupt-check-time", Duration, "0s", Moot(NOBODY_TO_COMPARE),
            "Interval at which the leader compares the members' data. 0: never.";
        "compact-hash-check-time", Duration, "1m", Moot(NOBODY_TO_COMPARE),
            "Interval at which the leader compares the members' compaction hashes.";
        "compaction-batch-limit", Uint(32), "1000", Works, "Most revisions removed in one step of a compaction.";
        "compaction-sleep-interval", Duration, "10ms", Works, "Pause between two steps of a compaction.";
        "watch-progress-notify-interval", Duration, "10m", Works,
            "Interval at which an idle watcher that asked for it is told the revision.";
        "bootstrap-defrag-threshold-megabytes", Uint(32), "0", Works,
            "Rewrite the storage at start if that frees at least so many megabytes. 0: never.";
        "max-learners", Int, "1", Moot("the membership of a single member does not change"),
            "Most learners in the cluster.";
        "downgrade-check-time", Duration, "5s", Moot("a single member has no other version to follow"),
            "Interval at which a running downgrade is checked.";
        "force-new-cluster", Bool, "false", Moot("the cluster of a single member is already this member alone"),
            "Make a cluster of this member alone out of its data.";
        "unsafe-no-fsync", Bool, "false", Works,
            "Do not wait for the disk. A power failure then loses acknowledged writes.";
    }
    Rusd {
        "storage-engine", Choice(StorageEngine::WORDS), StorageEngine::Sled.as_str(), Works,
            "Storage engine: sled keeps the working set in memory, redb also serves data larger than memory.";
        "engine-cache-bytes", Uint(64), "0", Works,
            "Memory for the engine's cache. 0: the engine's own default. Give sled enough for the working set.";
        "engine-persist-bytes", Uint(64), "67108864", Works,
            "Bytes written to the engine after which it is made durable and the log can be cut.";
        "engine-persist-interval", Duration, "5s", Works,
            "Idle time after which what was written to the engine is made durable.";
        "checkpoint-interval", Duration, "24h", Works,
            "Longest time between two checkpoints: copies of the data from which, with the log kept from there \
             on, damaged storage is rebuilt at the next start. Takes the space of the data once more, twice while \
             the next one is made, and that of the log: up to 128 MiB or half the size of the data, at most twice \
             that. 0: none, and damage means restoring a backup.";
        "raft-inline-append", Bool, "true", Works,
            "Let the Raft thread write the log itself when it is idle and the sole voter: one thread hop less per \
             write.";
        "raft-log-segment-bytes", Uint(64), "33554432", Works, "Size of one file of the Raft log.";
        "reader-threads", Uint(32), "2", Works,
            "Threads that serve large ranges, history and hashes beside the writer.";
        "watch-ring-bytes", Uint(64), "8388608", Works,
            "Memory for the most recent events, from which watchers catch up without reading the engine.";
        "report-version", Text, "3.7.1", Works, "Version of etcd to report to clients and tools: 3.6.x or 3.7.x.";
    }
};
