//! The configuration taken apart: what each part of the process is told.
//!
//! Each section goes to the one part that it is about, which takes it apart whole, without `..`. A setting that is
//! added to [`Config`] and forgotten by its part does not compile; one that is named there and not used is an unused
//! variable, and one that is passed on and not read is a field that nobody reads. Both are warnings, and warnings fail
//! the build.

use super::millis;
use crate::api::context::Limits;
use crate::config::{
    self, AutoCompaction, Config, FeatureGates, Gate, Listen, MetricsDetail, ReportedVersion,
};
use crate::disk;
use crate::process_metrics::Facts;
use rusd_compactor::{AutoMode, CompactorConfig};
use rusd_lease::LeaseConfig;
use rusd_members::version::ClusterVersion;
use rusd_mvcc::MvccConfig;
use rusd_watch::WatchConfig;
use std::path::PathBuf;
use std::time::Duration;

/// How often the remaining time of leases is written down, with the gate LeaseCheckpoint (L-10).
const LEASE_CHECKPOINT_INTERVAL_MS: u64 = 5 * 60 * 1000;

/// Everything that is configured, by who needs it.
pub(crate) struct Parts {
    pub(crate) data_dir: PathBuf,
    /// The directory of the log, if it is not inside the data directory.
    pub(crate) wal_dir: Option<PathBuf>,
    pub(crate) listen: Listen,
    pub(crate) metrics: MetricsDetail,
    pub(crate) node: NodeParts,
}

/// What the node is told.
pub(crate) struct NodeParts {
    pub(super) disk: disk::Settings,
    pub(super) actors: ActorParts,
    pub(super) requests: RequestParts,
    pub(super) facts: Facts,
    pub(super) heartbeat_interval: Duration,
}

/// What each actor is told.
pub(super) struct ActorParts {
    pub(super) raft: RaftParts,
    pub(super) mvcc: MvccConfig,
    pub(super) watch: WatchConfig,
    pub(super) lease: LeaseConfig,
    pub(super) compactor: CompactorConfig,
    pub(super) members: MembersParts,
}

/// What Raft is told, beside what it finds on disk.
pub(super) struct RaftParts {
    pub(super) heartbeat_ms: u64,
    pub(super) election_ms: u64,
    pub(super) pre_vote: bool,
    pub(super) inline_append: bool,
    pub(super) priority_requests: bool,
}

/// What this member says of itself.
pub(super) struct MembersParts {
    pub(super) name: String,
    pub(super) client_urls: Vec<String>,
    pub(super) cluster_version: ClusterVersion,
}

/// What handlers of requests are told.
pub(super) struct RequestParts {
    pub(super) version: ReportedVersion,
    pub(super) limits: Limits,
    pub(super) reader_threads: usize,
    pub(super) stop_serving_on_defragment: bool,
}

impl Parts {
    /// Takes a configuration apart. How to log was told before, when the log was set up.
    pub(crate) fn of(config: Config) -> Self {
        let request_timeout = config.request_timeout();
        let Config {
            member,
            listen,
            cluster,
            raft,
            log,
            storage,
            compaction,
            limits,
            watch,
            logging: _,
            metrics,
            gates,
            reported_version,
        } = config;
        let config::Member {
            name,
            data_dir,
            wal_dir,
        } = member;
        let (heartbeat_interval, election_timeout) =
            (raft.heartbeat_interval, raft.election_timeout);
        let election_ms = millis(election_timeout);
        let (limits, reader_threads, mvcc) = limit_parts(limits, election_ms, request_timeout);
        let facts = Facts {
            version: reported_version,
            quota_bytes: limits.quota_bytes,
            gates: gates.clone(),
        };
        let actors = ActorParts {
            raft: raft_parts(raft, &gates),
            mvcc,
            watch: watch_config(watch),
            lease: lease_config(election_ms, request_timeout, &gates),
            compactor: compactor_config(compaction),
            members: members_parts(&name, &cluster, reported_version),
        };
        let requests = RequestParts {
            version: reported_version,
            limits,
            reader_threads,
            stop_serving_on_defragment: gates.enabled(Gate::StopGrpcServiceOnDefrag),
        };
        let disk = disk::Settings {
            name,
            cluster,
            log,
            storage,
        };
        let node = NodeParts {
            disk,
            actors,
            requests,
            facts,
            heartbeat_interval,
        };
        Self {
            data_dir,
            wal_dir,
            listen,
            metrics,
            node,
        }
    }
}

fn raft_parts(raft: config::Raft, gates: &FeatureGates) -> RaftParts {
    let config::Raft {
        heartbeat_interval,
        election_timeout,
        pre_vote,
        inline_append,
    } = raft;
    RaftParts {
        heartbeat_ms: millis(heartbeat_interval),
        election_ms: millis(election_timeout),
        pre_vote,
        inline_append,
        priority_requests: gates.enabled(Gate::PriorityRequest),
    }
}

/// The limits of requests, the number of reader threads, and what the state machine is told.
fn limit_parts(
    limits: config::Limits,
    election_ms: u64,
    request_timeout: Duration,
) -> (Limits, usize, MvccConfig) {
    let config::Limits {
        quota_bytes,
        reader_threads,
        max_txn_ops,
        max_request_bytes,
        warning_unary_request_duration,
        warning_apply_duration,
    } = limits;
    let limits = Limits {
        min_lease_ttl_s: min_lease_ttl_s(election_ms),
        max_request_bytes: max_request_bytes as usize,
        max_txn_ops: max_txn_ops as usize,
        quota_bytes,
        request_timeout,
        warning_unary_request: warning_unary_request_duration,
        election_timeout: Duration::from_millis(election_ms),
    };
    let mvcc = MvccConfig {
        warning_apply: warning_apply_duration,
    };
    (limits, reader_threads as usize, mvcc)
}

/// One and a half election timeouts, rounded up to seconds (L-01).
fn min_lease_ttl_s(election_ms: u64) -> i64 {
    i64::try_from((election_ms.saturating_mul(3) / 2).div_ceil(1000)).unwrap_or(i64::MAX)
}

fn watch_config(watch: config::Watch) -> WatchConfig {
    let config::Watch {
        progress_notify_interval,
        ring_bytes,
    } = watch;
    WatchConfig {
        progress_notify_interval,
        ring_bytes: usize::try_from(ring_bytes).unwrap_or(usize::MAX),
    }
}

fn lease_config(election_ms: u64, request_timeout: Duration, gates: &FeatureGates) -> LeaseConfig {
    let checkpoints = gates.enabled(Gate::LeaseCheckpoint);
    LeaseConfig {
        election_timeout_ms: election_ms,
        request_timeout_ms: millis(request_timeout),
        checkpoint_interval_ms: checkpoints.then_some(LEASE_CHECKPOINT_INTERVAL_MS),
    }
}

fn compactor_config(compaction: config::Compaction) -> CompactorConfig {
    let config::Compaction {
        auto,
        batch_limit,
        sleep_interval,
    } = compaction;
    CompactorConfig {
        auto: match auto {
            AutoCompaction::Off => AutoMode::Off,
            AutoCompaction::Periodic(retention) => AutoMode::Periodic {
                retention_ms: millis(retention),
            },
            AutoCompaction::Revisions(retained) => AutoMode::Revisions { retained },
        },
        batch_records: batch_limit as usize,
        pause_ms: millis(sleep_interval),
    }
}

fn members_parts(name: &str, cluster: &config::Cluster, version: ReportedVersion) -> MembersParts {
    MembersParts {
        name: name.to_owned(),
        client_urls: cluster.advertise_client_urls.to_strings(),
        cluster_version: ClusterVersion {
            major: 3,
            minor: version.minor().into(),
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;
    use std::ffi::OsString;

    fn actors(flags: &[&str]) -> ActorParts {
        match config::load(flags.iter().map(OsString::from), std::iter::empty()).unwrap() {
            config::Action::Serve(config, _) => Parts::of(*config).node.actors,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn pre_vote_and_the_ring_of_watches_are_what_the_flags_say() {
        let default = actors(&[]);
        assert!(default.raft.pre_vote);
        assert_eq!(default.watch.ring_bytes, 8 << 20);
        let given = actors(&["--pre-vote=false", "--watch-ring-bytes=7"]);
        assert!(!given.raft.pre_vote);
        assert_eq!(given.watch.ring_bytes, 7);
    }

    #[test]
    fn l_01_the_shortest_lease_is_one_and_a_half_election_timeouts() {
        for (election_ms, seconds) in [(1_000, 2), (2_000, 3), (333, 1), (50_000, 75)] {
            assert_eq!(min_lease_ttl_s(election_ms), seconds);
        }
    }
}
