//! The typed configuration.
//!
//! Every field is what the server uses, not what the operator wrote: defaults are filled in, zeros that mean "default"
//! or "off" are resolved, lists are sorted, numbers carry their unit in the name.

use std::path::PathBuf;
use std::time::Duration;

use super::choice::choice;
pub use super::cluster::{Cluster, InitialCluster, InitialClusterState};
pub use super::gates::{FeatureGates, Gate, Stage};
use super::url::Urls;
pub use super::version::ReportedVersion;

/// Everything that is configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// This member: its name and directories.
    pub member: Member,
    /// What to listen on, and what a connection may do.
    pub listen: Listen,
    /// The cluster at its start, and what this member advertises.
    pub cluster: Cluster,
    /// How Raft elects and writes.
    pub raft: Raft,
    /// The log of Raft on disk.
    pub log: RaftLog,
    /// The storage engine, and how it becomes durable.
    pub storage: Storage,
    /// When history is compacted, and how fast.
    pub compaction: Compaction,
    /// Bounds on requests, and on how long they may take.
    pub limits: Limits,
    /// How watchers are served.
    pub watch: Watch,
    /// The log that operators read.
    pub logging: Logging,
    /// Detail of the metrics.
    pub metrics: MetricsDetail,
    /// Which features that are not settled are on.
    pub gates: FeatureGates,
    /// The version of etcd that clients are to see.
    pub reported_version: ReportedVersion,
}

impl Config {
    /// How long a request may take inside the server before its caller gets a timeout: a disk that stalls and two
    /// elections.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.raft.election_timeout
    }
}

/// This member: what `--name`, `--data-dir` and `--wal-dir` say.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Its name in the cluster.
    pub name: String,
    /// The directory of everything that it keeps.
    pub data_dir: PathBuf,
    /// The directory of the log, if it is not inside the data directory.
    pub wal_dir: Option<PathBuf>,
}

/// What to listen on, and what a connection may do.
#[derive(Clone, Debug, PartialEq)]
pub struct Listen {
    /// For clients; never TLS in this build.
    pub client_urls: Urls,
    /// For HTTP only. When there are any, `client_urls` serve gRPC only.
    pub client_http_urls: Urls,
    /// For other members; a member alone does not listen on them.
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
    /// Most streams of a connection.
    pub max_concurrent_streams: u32,
    /// Shortest time between a client's pings; none: the gRPC library's default.
    pub keepalive_min_time: Option<Duration>,
    /// The server's own pings; none: the gRPC library's default.
    pub keepalive: Option<KeepAlive>,
}

/// A list of names that are allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Every name: `*`, or an empty list.
    All,
    /// These names alone, sorted.
    Only(Vec<String>),
}

/// How Raft elects and writes.
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
}

/// The log of Raft on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct RaftLog {
    /// Size of one of its files.
    pub segment_bytes: u64,
    /// Whether to go on without waiting for the disk.
    pub unsafe_no_fsync: bool,
}

choice! {
    /// `--storage-engine`.
    StorageEngine {
        /// Keeps the working set in memory.
        Sled = "sled",
        /// Also serves data larger than memory.
        Redb = "redb",
    }
}

/// The storage engine, and how it becomes durable.
#[derive(Clone, Debug, PartialEq)]
pub struct Storage {
    /// The crate that keeps the data.
    pub engine: StorageEngine,
    /// Memory for its cache; none: its own default.
    pub cache_bytes: Option<u64>,
    /// Bytes written after which it is made durable.
    pub persist_bytes: u64,
    /// Idle time after which it is made durable.
    pub persist_interval: Duration,
    /// Longest time between two checkpoints; none: none are kept.
    pub checkpoint_interval: Option<Duration>,
    /// Rewrite the storage at start if that frees so many bytes; none: never.
    pub bootstrap_defrag_threshold_bytes: Option<u64>,
}

/// When history is compacted, and how fast.
#[derive(Clone, Debug, PartialEq)]
pub struct Compaction {
    /// When to compact without being asked.
    pub auto: AutoCompaction,
    /// Most revisions removed in one step.
    pub batch_limit: u32,
    /// Pause between two steps.
    pub sleep_interval: Duration,
}

choice! {
    /// What `--auto-compaction-retention` counts.
    RetentionMode {
        /// A duration, or a number of hours.
        Periodic = "periodic",
        /// A number of revisions.
        Revision = "revision",
    }
}

/// When to compact without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// Only when a client asks.
    Off,
    /// Keep the history of this time.
    Periodic(Duration),
    /// Keep this many revisions.
    Revisions(i64),
}

/// Bounds on requests, and on how long they may take.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Size of the data above which writes are refused; none: no limit.
    pub quota_bytes: Option<u64>,
    /// Threads for large reads.
    pub reader_threads: u32,
    /// Most operations in a transaction.
    pub max_txn_ops: u32,
    /// Largest request, as it is on the wire.
    pub max_request_bytes: u32,
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

/// How watchers are served.
#[derive(Clone, Debug, PartialEq)]
pub struct Watch {
    /// How often an idle watcher that asked for it gets the revision.
    pub progress_notify_interval: Duration,
    /// Memory for recent events.
    pub ring_bytes: u64,
}

choice! {
    /// Detail of the metrics.
    MetricsDetail {
        /// Counters and gauges, and histograms of the disk.
        Basic = "basic",
        /// Also histograms of how long gRPC calls take.
        Extensive = "extensive",
    }
}

/// The log that operators read.
#[derive(Clone, Debug, PartialEq)]
pub struct Logging {
    /// Lowest level that is logged.
    pub level: LogLevel,
    /// Form of a line.
    pub format: LogFormat,
    /// Where lines go, at least one place, each once.
    pub outputs: Vec<LogOutput>,
    /// When the one file is rotated; none: never.
    pub rotation: Option<LogRotation>,
}

choice! {
    /// Levels of log lines, lowest first.
    LogLevel {
        /// For who looks into the server.
        Debug = "debug",
        /// What happens in normal operation.
        Info = "info",
        /// Something to look at.
        Warn = "warn",
        /// Something that failed.
        Error = "error",
        /// A broken invariant.
        Panic = "panic",
        /// The process ends.
        Fatal = "fatal",
    }
}

choice! {
    /// Forms of a log line.
    LogFormat {
        /// One JSON object.
        Json = "json",
        /// Tab-separated, as etcd prints it.
        Console = "console",
        /// `key=value` pairs.
        Text = "text",
    }
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
