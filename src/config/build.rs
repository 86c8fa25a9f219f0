//! From flat settings to the typed configuration, with the rules that concern several settings.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::cluster::{INITIAL_CLUSTER_DEFAULT, NAME_DEFAULT};
use super::error::ConfigError;
use super::gates::{FeatureGates, Gate};
use super::model::*;
use super::settings::{Settings, Warning};
use super::url::Urls;

/// The longest election timeout that makes sense on a network of this planet.
const ELECTION_TIMEOUT_MS_MAX: u64 = 50_000;
/// An election must leave room for a few lost heartbeats.
const HEARTBEATS_PER_ELECTION_MIN: u64 = 5;
/// Requests above this size make every member's log and every follower's memory suffer.
const MAX_REQUEST_BYTES_RECOMMENDED: u32 = 10 * 1024 * 1024;
/// The quota when none is given.
const QUOTA_BYTES_DEFAULT: u64 = 2 * 1024 * 1024 * 1024;
/// The quota above which recovery becomes slow.
const QUOTA_BYTES_RECOMMENDED: u64 = 8 * 1024 * 1024 * 1024;
/// Peer timeouts below this would break connections that merely idle.
const PEER_TIMEOUT_MIN: Duration = Duration::from_secs(5);
/// The smallest log file that still holds the largest default request.
const LOG_SEGMENT_BYTES_MIN: u64 = 1024 * 1024;
/// More reader threads than this would be a typing error.
const READER_THREADS_MAX: u32 = 256;

fn rule(text: impl Into<String>) -> ConfigError {
    ConfigError::Rule(text.into())
}

/// Builds the configuration.
pub(super) fn build(mut settings: Settings) -> Result<(Config, Vec<Warning>), ConfigError> {
    settings.check_statuses()?;
    let gates = gates(&mut settings)?;
    let member = member(&mut settings)?;
    let listen = listen(&settings)?;
    let cluster = cluster(&settings, &member.name)?;
    let raft = raft(&settings)?;
    let storage = storage(&mut settings)?;
    let compaction = compaction(&settings)?;
    let limits = limits(&mut settings)?;
    let watch = Watch {
        progress_notify_interval: or_default(
            &settings,
            "watch-progress-notify-interval",
            Duration::from_secs(600),
        )?,
        ring_bytes: settings.uint("watch-ring-bytes")?,
    };
    let checks = checks(&mut settings)?;
    let logging = logging(&settings)?;
    let metrics = match settings.text("metrics")? {
        "extensive" => MetricsDetail::Extensive,
        _ => MetricsDetail::Basic,
    };
    let reported_version = settings.text("report-version")?.parse();
    let reported_version =
        reported_version.map_err(|reason| settings.bad("report-version", reason))?;
    let config = Config {
        member,
        listen,
        cluster,
        raft,
        storage,
        compaction,
        limits,
        watch,
        checks,
        logging,
        metrics,
        gates,
        reported_version,
    };
    Ok((config, settings.warnings))
}

fn gates(settings: &mut Settings) -> Result<FeatureGates, ConfigError> {
    let parsed = FeatureGates::parse(settings.text("feature-gates")?);
    let mut gates = parsed.map_err(|reason| settings.bad("feature-gates", reason))?;
    for (gate, enabled, place) in std::mem::take(&mut settings.gates) {
        if gates.name_gate(gate, enabled) {
            return Err(ConfigError::Disagreement {
                first: format!(
                    "{}={} in {}",
                    gate.name(),
                    !enabled,
                    settings.place("feature-gates")
                ),
                second: place.show(gate.name()),
            });
        }
    }
    let without_effect: Vec<Warning> = gates
        .named()
        .filter_map(|(gate, _)| {
            let reason = gate.without_effect()?;
            Some(Warning::new(format!(
                "the feature gate {} has no effect: {reason}",
                gate.name()
            )))
        })
        .collect();
    settings.warnings.extend(without_effect);
    if gates.enabled(Gate::LeaseCheckpointPersist) && !gates.enabled(Gate::LeaseCheckpoint) {
        return Err(rule(
            "the feature gate LeaseCheckpointPersist needs LeaseCheckpoint: enable both in --feature-gates",
        ));
    }
    Ok(gates)
}

fn member(settings: &mut Settings) -> Result<Member, ConfigError> {
    let name = settings.text("name")?.to_owned();
    if name.is_empty() {
        return Err(settings.bad("name", "a member needs a name"));
    }
    if name == NAME_DEFAULT {
        settings.warnings.push(Warning::new(
            "--name is \"default\": give every member a name of its own, or members of one cluster will be mixed up",
        ));
    }
    let data_dir = match settings.text("data-dir")? {
        "" => {
            let data_dir = format!("{name}.etcd");
            settings.warnings.push(Warning::new(format!(
                "--data-dir is not set: using {data_dir}"
            )));
            data_dir
        }
        data_dir => data_dir.to_owned(),
    };
    let wal_dir = Some(settings.text("wal-dir")?)
        .filter(|dir| !dir.is_empty())
        .map(PathBuf::from);
    Ok(Member {
        name,
        data_dir: PathBuf::from(data_dir),
        wal_dir,
    })
}

/// The URLs of one listener setting, checked.
fn listen_urls(settings: &Settings, name: &str) -> Result<Urls, ConfigError> {
    let urls = settings.urls(name)?.clone();
    for url in &urls {
        if url.scheme().is_tls() {
            return Err(ConfigError::NotBuilt {
                place: settings.place(name),
                value: format!("{:?}", url.to_string()),
                feature: "TLS is".to_owned(),
            });
        }
        url.bind_address()
            .map_err(|reason| settings.bad(name, reason))?;
    }
    Ok(urls)
}

fn listen(settings: &Settings) -> Result<Listen, ConfigError> {
    let peer_urls = listen_urls(settings, "listen-peer-urls")?;
    let client_urls = listen_urls(settings, "listen-client-urls")?;
    let client_http_urls = listen_urls(settings, "listen-client-http-urls")?;
    let metrics_urls = listen_urls(settings, "listen-metrics-urls")?;
    if client_urls.is_empty() {
        return Err(settings.bad("listen-client-urls", "clients need at least one URL"));
    }
    let fixed_port = |url: &&super::EtcdUrl| url.port() != Some(0);
    if let Some(url) = client_http_urls
        .iter()
        .filter(fixed_port)
        .find(|url| client_urls.iter().any(|u| u == *url))
    {
        return Err(rule(format!(
            "{url} is in both --listen-client-urls and --listen-client-http-urls"
        )));
    }
    Ok(Listen {
        client_urls,
        client_http_urls,
        peer_urls,
        metrics_urls,
        reuse_port: settings.bool("socket-reuse-port")?,
        reuse_address: settings.bool("socket-reuse-address")?,
        cors: allowed(settings.list("cors")?),
        host_whitelist: allowed(settings.list("host-whitelist")?),
    })
}

fn allowed(names: &[String]) -> Allowed {
    if names.is_empty() || names.iter().any(|name| name == "*") {
        return Allowed::All;
    }
    let mut names = names.to_vec();
    names.sort();
    names.dedup();
    Allowed::Only(names)
}

fn cluster(settings: &Settings, name: &str) -> Result<Cluster, ConfigError> {
    if settings.is_given("listen-client-urls")
        && !settings.is_given("advertise-client-urls")
        && !settings.from_etcd_file
    {
        return Err(rule(
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ));
    }
    let advertised = |name: &str| -> Result<Urls, ConfigError> {
        let urls = settings.urls(name)?.clone();
        for url in &urls {
            url.check_advertised()
                .map_err(|reason| settings.bad(name, reason))?;
        }
        Ok(urls)
    };
    let advertise_client_urls = advertised("advertise-client-urls")?;
    let advertise_peer_urls = advertised("initial-advertise-peer-urls")?;
    if advertise_peer_urls.is_empty() {
        return Err(settings.bad("initial-advertise-peer-urls", "at least one URL is needed"));
    }
    let text = settings.text("initial-cluster")?;
    let follows_name = text == INITIAL_CLUSTER_DEFAULT && name != NAME_DEFAULT;
    let initial = if follows_name {
        InitialCluster::one(name, advertise_peer_urls.clone())
    } else {
        InitialCluster::parse(text).map_err(|reason| settings.bad("initial-cluster", reason))?
    };
    let names: Vec<&str> = initial.members().map(|(name, _)| name).collect();
    if names.len() > 1 {
        return Err(rule(format!(
            "{} names {} members ({}), but clusters of several members are not part of this build: \
             start this member alone, with --initial-cluster={name}={advertise_peer_urls}",
            settings.place("initial-cluster"),
            names.len(),
            names.join(", "),
        )));
    }
    Ok(Cluster {
        advertise_client_urls,
        advertise_peer_urls,
        initial,
        initial_state: match settings.text("initial-cluster-state")? {
            "existing" => InitialClusterState::Existing,
            _ => InitialClusterState::New,
        },
        token: settings.text("initial-cluster-token")?.to_owned(),
        follows_name,
    })
}

fn raft(settings: &Settings) -> Result<Raft, ConfigError> {
    let heartbeat_ms = settings.uint("heartbeat-interval")?;
    let election_ms = settings.uint("election-timeout")?;
    for (name, value) in [
        ("heartbeat-interval", heartbeat_ms),
        ("election-timeout", election_ms),
    ] {
        if value == 0 {
            return Err(rule(format!("--{name} must be >0 (set to {value}ms)")));
        }
    }
    if heartbeat_ms * HEARTBEATS_PER_ELECTION_MIN > election_ms {
        return Err(rule(format!(
            "--election-timeout[{election_ms}ms] must be at least {HEARTBEATS_PER_ELECTION_MIN} times \
             --heartbeat-interval[{heartbeat_ms}ms]"
        )));
    }
    if election_ms > ELECTION_TIMEOUT_MS_MAX {
        return Err(rule(format!(
            "--election-timeout[{election_ms}ms] is too long: it may be at most {ELECTION_TIMEOUT_MS_MAX}ms"
        )));
    }
    let log_segment_bytes = settings.uint("raft-log-segment-bytes")?;
    if log_segment_bytes < LOG_SEGMENT_BYTES_MIN {
        return Err(settings.bad(
            "raft-log-segment-bytes",
            format!("it must be at least {LOG_SEGMENT_BYTES_MIN}"),
        ));
    }
    Ok(Raft {
        heartbeat_interval: Duration::from_millis(heartbeat_ms),
        election_timeout: Duration::from_millis(election_ms),
        pre_vote: settings.bool("pre-vote")?,
        inline_append: settings.bool("raft-inline-append")?,
        log_segment_bytes,
        unsafe_no_fsync: settings.bool("unsafe-no-fsync")?,
    })
}

fn storage(settings: &mut Settings) -> Result<Storage, ConfigError> {
    let quota = settings.int("quota-backend-bytes")?;
    let quota_bytes = match quota {
        0 => Some(QUOTA_BYTES_DEFAULT),
        _ => u64::try_from(quota).ok(),
    };
    if let Some(bytes) = quota_bytes.filter(|&bytes| bytes > QUOTA_BYTES_RECOMMENDED) {
        settings.warnings.push(Warning::new(format!(
            "--quota-backend-bytes is {bytes}, above the recommended maximum of {QUOTA_BYTES_RECOMMENDED}"
        )));
    }
    let persist_bytes = settings.uint("engine-persist-bytes")?;
    if persist_bytes == 0 {
        return Err(settings.bad("engine-persist-bytes", "it must be at least 1"));
    }
    let persist_interval = settings.duration("engine-persist-interval")?;
    if persist_interval.is_zero() {
        return Err(settings.bad("engine-persist-interval", "it must be longer than 0"));
    }
    let reader_threads = settings.uint32("reader-threads")?;
    if reader_threads == 0 || reader_threads > READER_THREADS_MAX {
        return Err(settings.bad(
            "reader-threads",
            format!("it must be between 1 and {READER_THREADS_MAX}"),
        ));
    }
    let threshold_megabytes = settings.uint("bootstrap-defrag-threshold-megabytes")?;
    Ok(Storage {
        engine: match settings.text("storage-engine")? {
            "redb" => StorageEngine::Redb,
            _ => StorageEngine::Sled,
        },
        cache_bytes: Some(settings.uint("engine-cache-bytes")?).filter(|&bytes| bytes > 0),
        persist_bytes,
        persist_interval,
        checkpoint_interval: Some(settings.duration("checkpoint-interval")?)
            .filter(|interval| !interval.is_zero()),
        reader_threads,
        quota_bytes,
        bootstrap_defrag_threshold_bytes: Some(threshold_megabytes * 1024 * 1024)
            .filter(|&bytes| bytes > 0),
    })
}

fn compaction(settings: &Settings) -> Result<Compaction, ConfigError> {
    let retention = settings.text("auto-compaction-retention")?;
    let periodic = settings.text("auto-compaction-mode")? == "periodic";
    let bad = |reason: String| settings.bad("auto-compaction-retention", reason);
    let auto = match (retention.parse::<u64>(), periodic) {
        (Ok(0), _) => AutoCompaction::Off,
        (Ok(hours), true) => {
            let seconds = hours
                .checked_mul(3600)
                .filter(|&seconds| seconds <= super::duration::MAX_NANOS / 1_000_000_000);
            let seconds = seconds.ok_or_else(|| bad("it is too long a time".to_owned()))?;
            AutoCompaction::Periodic(Duration::from_secs(seconds))
        }
        (Ok(revisions), false) => {
            let revisions =
                i64::try_from(revisions).map_err(|_| bad("it is too large".to_owned()))?;
            AutoCompaction::Revisions(revisions)
        }
        (Err(_), true) => match super::duration::parse(retention).map_err(bad)? {
            Duration::ZERO => AutoCompaction::Off,
            period => AutoCompaction::Periodic(period),
        },
        (Err(_), false) => {
            return Err(bad(
                "with --auto-compaction-mode=revision it is a number of revisions".to_owned(),
            ));
        }
    };
    Ok(Compaction {
        auto,
        batch_limit: match settings.uint32("compaction-batch-limit")? {
            0 => 1000,
            limit => limit,
        },
        sleep_interval: or_default(
            settings,
            "compaction-sleep-interval",
            Duration::from_millis(10),
        )?,
    })
}

/// A duration whose zero means the default.
fn or_default(settings: &Settings, name: &str, default: Duration) -> Result<Duration, ConfigError> {
    Ok(match settings.duration(name)? {
        Duration::ZERO => default,
        duration => duration,
    })
}

fn positive(duration: Duration) -> Option<Duration> {
    (!duration.is_zero()).then_some(duration)
}

fn limits(settings: &mut Settings) -> Result<Limits, ConfigError> {
    let max_request_bytes = settings.uint32("max-request-bytes")?;
    if max_request_bytes > MAX_REQUEST_BYTES_RECOMMENDED {
        settings.warnings.push(Warning::new(format!(
            "--max-request-bytes is {max_request_bytes}, above the recommended maximum of {MAX_REQUEST_BYTES_RECOMMENDED}"
        )));
    }
    let interval = positive(settings.duration("grpc-keepalive-interval")?);
    let timeout = positive(settings.duration("grpc-keepalive-timeout")?);
    Ok(Limits {
        max_txn_ops: settings.uint32("max-txn-ops")?,
        max_request_bytes,
        max_concurrent_streams: match settings.uint32("max-concurrent-streams")? {
            0 => u32::MAX,
            streams => streams,
        },
        keepalive_min_time: positive(settings.duration("grpc-keepalive-min-time")?),
        keepalive: interval
            .zip(timeout)
            .map(|(interval, timeout)| KeepAlive { interval, timeout }),
        warning_unary_request_duration: or_default(
            settings,
            "warning-unary-request-duration",
            Duration::from_millis(300),
        )?,
        warning_apply_duration: settings.duration("warning-apply-duration")?,
    })
}

fn checks(settings: &mut Settings) -> Result<Checks, ConfigError> {
    for name in ["raft-read-timeout", "raft-write-timeout"] {
        if settings.duration(name)? < PEER_TIMEOUT_MIN {
            settings.warnings.push(Warning::new(format!(
                "--{name} is below its minimum of 5s and is raised to it"
            )));
        }
    }
    let compact_hash_check_interval = settings.duration("compact-hash-check-time")?;
    if compact_hash_check_interval.is_zero() {
        return Err(rule("--compact-hash-check-time must be >0 (set to 0s)"));
    }
    Ok(Checks {
        corrupt_check_interval: positive(settings.duration("corrupt-check-time")?),
        compact_hash_check_interval,
        downgrade_check_interval: settings.duration("downgrade-check-time")?,
    })
}

fn logging(settings: &Settings) -> Result<Logging, ConfigError> {
    let names = settings.list("log-outputs")?;
    let mut outputs: Vec<LogOutput> = Vec::new();
    for name in names {
        let output = match name.as_str() {
            "default" if names.len() > 1 => {
                return Err(
                    settings.bad("log-outputs", "default stands alone: name stderr instead")
                );
            }
            "default" | "stderr" => LogOutput::Stderr,
            "stdout" => LogOutput::Stdout,
            "systemd/journal" => {
                return Err(ConfigError::NotBuilt {
                    place: settings.place("log-outputs"),
                    value: format!("{name:?}"),
                    feature: "writing to the journal is".to_owned(),
                });
            }
            "" => return Err(settings.bad("log-outputs", "one of the outputs is empty")),
            path => LogOutput::File(PathBuf::from(path)),
        };
        if !outputs.contains(&output) {
            outputs.push(output);
        }
    }
    if outputs.is_empty() {
        outputs.push(LogOutput::Stderr);
    }
    let rotation = if settings.bool("enable-log-rotation")? {
        let files = outputs
            .iter()
            .filter(|output| matches!(output, LogOutput::File(_)))
            .count();
        if files != 1 {
            return Err(rule(format!(
                "--enable-log-rotation needs exactly one file in --log-outputs; there are {files}"
            )));
        }
        Some(rotation(settings)?)
    } else {
        None
    };
    Ok(Logging {
        level: match settings.text("log-level")? {
            "debug" => LogLevel::Debug,
            "warn" => LogLevel::Warn,
            "error" => LogLevel::Error,
            "panic" => LogLevel::Panic,
            "fatal" => LogLevel::Fatal,
            _ => LogLevel::Info,
        },
        format: match settings.text("log-format")? {
            "console" => LogFormat::Console,
            "text" => LogFormat::Text,
            _ => LogFormat::Json,
        },
        outputs,
        rotation,
    })
}

/// `--log-rotation-config-json`, in the words of the log writer that etcd uses.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RotationJson {
    maxsize: u32,
    maxage: u32,
    maxbackups: u32,
    localtime: bool,
    compress: bool,
}

impl Default for RotationJson {
    fn default() -> Self {
        RotationJson {
            maxsize: 100,
            maxage: 0,
            maxbackups: 0,
            localtime: false,
            compress: false,
        }
    }
}

fn rotation(settings: &Settings) -> Result<LogRotation, ConfigError> {
    const NAME: &str = "log-rotation-config-json";
    let json: RotationJson = serde_json::from_str(settings.text(NAME)?)
        .map_err(|error| settings.bad(NAME, error.to_string()))?;
    for (field, asked, feature) in [
        (
            "localtime",
            json.localtime,
            "local time in the names of old log files is",
        ),
        ("compress", json.compress, "compression of old log files is"),
    ] {
        if asked {
            return Err(ConfigError::NotBuilt {
                place: settings.place(NAME),
                value: format!("{field}=true"),
                feature: feature.to_owned(),
            });
        }
    }
    let megabytes = if json.maxsize == 0 { 100 } else { json.maxsize };
    Ok(LogRotation {
        max_size_bytes: u64::from(megabytes) * 1024 * 1024,
        max_age_days: Some(json.maxage).filter(|&days| days > 0),
        max_backups: Some(json.maxbackups).filter(|&count| count > 0),
    })
}
