//! The typed configuration.
//!
//! Every field is what the server uses, not what the operator wrote: defaults are filled in, zeros that mean "default" or
//! "off" are resolved, lists are sorted, numbers carry their unit in the name.

use std::path::PathBuf;
use std::time::Duration;

pub use super::cluster::{Cluster, InitialCluster, InitialClusterState};
pub use super::gates::{FeatureGates, Gate, Stage};
use super::url::Urls;
pub use super::version::ReportedVersion;

/// Everything that is configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// This member: its name and directories.
    pub member: Member,
    /// What to listen on.
    pub listen: Listen,
    /// The cluster at its start, and what this member advertises.
    pub cluster: Cluster,
    /// The Raft core and its log.
    pub raft: Raft,
    /// The storage engine.
    pub storage: Storage,
    /// Compaction of history.
    pub compaction: Compaction,
    /// Bounds on requests, and on what a connection may do.
    pub limits: Limits,
    /// Watches.
    pub watch: Watch,
    /// Checks that members make on each other.
    pub checks: Checks,
    /// The log.
    pub logging: Logging,
    /// Detail of the metrics.
    pub metrics: MetricsDetail,
    /// Feature gates.
    pub gates: FeatureGates,
    /// The version of etcd that clients are told.
    pub reported_version: ReportedVersion,
}

impl Config {
    /// How long a request may take inside the server before its caller is told that it timed out: a disk that stalls
    /// and two elections.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.raft.election_timeout
    }
}

/// This member.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Its name in the cluster.
    pub name: String,
    /// The directory of everything that it keeps.
    pub data_dir: PathBuf,
    /// The directory of the log, if it is not inside the data directory.
    pub wal_dir: Option<PathBuf>,
}

/// What to listen on.
#[derive(Clone, Debug, PartialEq)]
pub struct Listen {
    /// For clients; never TLS in this build.
    pub client_urls: Urls,
    /// For HTTP only. When there are any, `client_urls` serve gRPC only.
    pub client_http_urls: Urls,
    /// For other members.
    pub peer_urls: Urls,
    /// For metrics and health checks only.
    pub metrics_urls: Urls,
    /// Whether to set `SO_REUSEPORT`.
    pub reuse_port: bool,
    /// Whether to set `SO_REUSEADDR`.
    pub reuse_address: bool,
    /// Origins allowed to call from a browser.
    pub cors: Allowed,
    /// Hosts accepted in plain HTTP requests.
    pub host_whitelist: Allowed,
}

/// A list of names that are allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Every name.
    All,
    /// These alone.
    Only(Vec<String>),
}

impl Allowed {
    /// Whether the name is allowed.
    pub fn allows(&self, name: &str) -> bool {
        match self {
            Allowed::All => true,
            Allowed::Only(names) => names.iter().any(|known| known == name),
        }
    }
}

/// The Raft core and its log.
#[derive(Clone, Debug, PartialEq)]
pub struct Raft {
    /// The length of a tick.
    pub heartbeat_interval: Duration,
    /// Silence of the leader after which an election starts: at least five heartbeats.
    pub election_timeout: Duration,
    /// Whether to ask for votes before raising the term.
    pub pre_vote: bool,
    /// Whether the Raft thread may write the log itself when it is idle and the sole voter.
    pub inline_append: bool,
    /// Size of one log file.
    pub log_segment_bytes: u64,
    /// Whether to go on without waiting for the disk.
    pub unsafe_no_fsync: bool,
}

impl Raft {
    /// The election timeout in ticks.
    pub fn election_ticks(&self) -> usize {
        let ticks = self.election_timeout.as_millis() / self.heartbeat_interval.as_millis().max(1);
        usize::try_from(ticks).unwrap_or(usize::MAX)
    }
}

/// The storage engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageEngine {
    /// Keeps the working set in memory.
    Sled,
    /// Also serves data larger than memory.
    Redb,
}

impl StorageEngine {
    /// The engine's name.
    pub fn as_str(self) -> &'static str {
        match self {
            StorageEngine::Sled => "sled",
            StorageEngine::Redb => "redb",
        }
    }
}

/// The storage engine.
#[derive(Clone, Debug, PartialEq)]
pub struct Storage {
    /// Which engine.
    pub engine: StorageEngine,
    /// Memory for its cache; none: its own default.
    pub cache_bytes: Option<u64>,
    /// Bytes written after which it is made durable.
    pub persist_bytes: u64,
    /// Idle time after which it is made durable.
    pub persist_interval: Duration,
    /// Longest time between two checkpoints; none: none are kept.
    pub checkpoint_interval: Option<Duration>,
    /// Threads for large reads.
    pub reader_threads: u32,
    /// Size above which writes are refused; none: no limit.
    pub quota_bytes: Option<u64>,
    /// Rewrite the storage at start if that frees so many bytes; none: never.
    pub bootstrap_defrag_threshold_bytes: Option<u64>,
}

/// Compaction of history.
#[derive(Clone, Debug, PartialEq)]
pub struct Compaction {
    /// When to compact without being asked.
    pub auto: AutoCompaction,
    /// Most revisions removed in one step.
    pub batch_limit: u32,
    /// Pause between steps.
    pub sleep_interval: Duration,
}

/// When to compact without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// Never.
    Off,
    /// Keep the history of this time.
    Periodic(Duration),
    /// Keep this many revisions.
    Revisions(i64),
}

/// Bounds on requests, and on what a connection may do.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Most operations in a transaction.
    pub max_txn_ops: u32,
    /// Largest request.
    pub max_request_bytes: u32,
    /// Most streams of a connection.
    pub max_concurrent_streams: u32,
    /// Shortest time between a client's pings; none: the gRPC library's default.
    pub keepalive_min_time: Option<Duration>,
    /// The server's own pings; none: the gRPC library's default.
    pub keepalive: Option<KeepAlive>,
    /// Time above which a unary request is logged as slow.
    pub warning_unary_request_duration: Duration,
    /// Time above which applying an entry is logged as slow.
    pub warning_apply_duration: Duration,
}

/// The server's own pings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// Idle time before a ping.
    pub interval: Duration,
    /// Time for its answer.
    pub timeout: Duration,
}

/// Watches.
#[derive(Clone, Debug, PartialEq)]
pub struct Watch {
    /// How often an idle watcher that asked for it is told the revision.
    pub progress_notify_interval: Duration,
    /// Memory for recent events.
    pub ring_bytes: u64,
}

/// Checks that members make on each other. With one member they find nothing to compare.
#[derive(Clone, Debug, PartialEq)]
pub struct Checks {
    /// How often data is compared; none: never.
    pub corrupt_check_interval: Option<Duration>,
    /// How often compaction hashes are compared, if the gate is on.
    pub compact_hash_check_interval: Duration,
    /// How often a running downgrade is looked at.
    pub downgrade_check_interval: Duration,
}

/// Detail of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsDetail {
    /// Counters and gauges.
    Basic,
    /// Also histograms of how long gRPC calls take.
    Extensive,
}

/// The log.
#[derive(Clone, Debug, PartialEq)]
pub struct Logging {
    /// Lowest level that is logged.
    pub level: LogLevel,
    /// Form of a line.
    pub format: LogFormat,
    /// Where lines go.
    pub outputs: Vec<LogOutput>,
    /// When the one file is rotated; none: never.
    pub rotation: Option<LogRotation>,
}

/// Levels of log lines, lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// For who looks into the server.
    Debug,
    /// What happens in normal operation.
    Info,
    /// Something to look at.
    Warn,
    /// Something that failed.
    Error,
    /// A broken invariant.
    Panic,
    /// The process ends.
    Fatal,
}

impl LogLevel {
    /// The level as it stands in a line.
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Warn => "warn",
            LogLevel::Error => "error",
            LogLevel::Panic => "panic",
            LogLevel::Fatal => "fatal",
        }
    }
}

/// Forms of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object.
    Json,
    /// Tab-separated, as etcd prints it.
    Console,
    /// `key=value` pairs.
    Text,
}

/// Where log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOutput {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// The end of this file.
    File(PathBuf),
}

/// When a log file is rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRotation {
    /// Size above which a new file is begun.
    pub max_size_bytes: u64,
    /// Age above which old files are removed; none: never.
    pub max_age_days: Option<u32>,
    /// Number of old files that are kept; none: all.
    pub max_backups: Option<u32>,
}
