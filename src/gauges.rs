//! Gauges that say what this process is and may use: set once at start, or when asked.

use crate::config::Config;
use crate::process;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGauge, IntGaugeVec, Opts};
use rusd_messages::MemberId;
use std::sync::OnceLock;

/// Registers the gauges. The second call in a process changes nothing.
pub fn init(config: &Config, member: MemberId) {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        if let Err(error) = register(config, member) {
            // A name clash is a mistake of this program that its tests would show; serving goes on without.
            tracing::warn!(%error, "cannot register the gauges of the process");
        }
    });
}

fn register(config: &Config, member: MemberId) -> prometheus::Result<()> {
    let member = member.to_string();
    let version = config.reported_version.to_string();
    labelled(
        "etcd_server_version",
        "The version reported to clients.",
        "server_version",
        &version,
    )?;
    labelled("etcd_server_id", "This member.", "server_id", &member)?;
    plain(
        "etcd_server_is_learner",
        "Whether this member has no vote.",
        0,
    )?;
    let quota = config.storage.quota_bytes.unwrap_or(0);
    plain(
        "etcd_server_quota_backend_bytes",
        "The quota of the database.",
        i64::try_from(quota).unwrap_or(i64::MAX),
    )?;
    let features = IntGaugeVec::new(
        Opts::new(
            "etcd_server_feature_enabled",
            "Whether a feature gate is on.",
        ),
        &["name", "stage"],
    )?;
    for (name, stage, enabled) in config.gates.states() {
        let stage = stage.as_str();
        features
            .with_label_values(&[name, stage])
            .set(enabled.into());
    }
    prometheus::register(Box::new(features))?;
    prometheus::register(Box::new(OpenFiles::new()?))
}

fn labelled(name: &str, help: &str, label: &str, value: &str) -> prometheus::Result<()> {
    let gauge = IntGaugeVec::new(Opts::new(name, help), &[label])?;
    gauge.with_label_values(&[value]).set(1);
    prometheus::register(Box::new(gauge))
}

fn plain(name: &str, help: &str, value: i64) -> prometheus::Result<()> {
    let gauge = IntGauge::new(name, help)?;
    gauge.set(value);
    prometheus::register(Box::new(gauge))
}

/// Open files and their limit, counted when asked.
struct OpenFiles {
    used: IntGauge,
    limit: IntGauge,
}

impl OpenFiles {
    fn new() -> prometheus::Result<Self> {
        Ok(Self {
            used: IntGauge::new("os_fd_used", "Files this process has open.")?,
            limit: IntGauge::new("os_fd_limit", "Files this process may have open.")?,
        })
    }
}

impl Collector for OpenFiles {
    fn desc(&self) -> Vec<&Desc> {
        [self.used.desc(), self.limit.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
            self.used
                .set(i64::try_from(entries.count()).unwrap_or(i64::MAX));
        }
        let limit = process::open_files_limit().and_then(|limit| i64::try_from(limit).ok());
        self.limit.set(limit.unwrap_or(i64::MAX));
        [self.used.collect(), self.limit.collect()].concat()
    }
}
