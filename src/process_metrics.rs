//! What this process is, uses and may use: set once at start, or read from the system when asked.

use crate::config::{FeatureGates, ReportedVersion};
use crate::process;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntGauge};
use rusd_messages::MemberId;
use rusd_messages::metrics::{counter, float_gauge, gauge, gauges};
use std::sync::{Mutex, OnceLock, PoisonError};

/// What is configured and shown as a gauge.
pub(crate) struct Facts {
    pub(crate) version: ReportedVersion,
    /// Size above which writes are refused; none: no limit.
    pub(crate) quota_bytes: Option<u64>,
    pub(crate) gates: FeatureGates,
}

/// Registers the gauges. The second call in a process changes nothing.
pub(crate) fn init(facts: Facts, member: MemberId) {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        if let Err(error) = register(facts, member) {
            // A name clash is a mistake of this program that its tests would show; serving goes on without.
            tracing::warn!(%error, "cannot register the gauges of the process");
        }
    });
}

fn register(facts: Facts, member: MemberId) -> prometheus::Result<()> {
    let member = member.to_string();
    let Facts {
        version,
        quota_bytes,
        gates,
    } = facts;
    let version = version.to_string();
    labelled(
        "etcd_server_version",
        "The version reported to clients.",
        &["server_version"],
        &[&version],
    );
    labelled("etcd_server_id", "This member.", &["server_id"], &[&member]);
    plain(
        "etcd_server_is_learner",
        "Whether this member has no vote.",
        0,
    );
    // What cannot happen to a member that is alone has not happened.
    counter(
        "etcd_server_learner_promote_successes",
        "Learners that were given a vote.",
    );
    plain(
        "etcd_server_snapshot_apply_in_progress_total",
        "1 while a snapshot is applied.",
        0,
    );
    plain(
        "etcd_debugging_auth_revision",
        "The revision of users, roles and permissions; 1 while there are none.",
        1,
    );
    labelled(
        "etcd_network_known_peers",
        "Members, as this one knows them.",
        &["Local", "Remote"],
        &[&member, &member],
    );
    let quota = quota_bytes.unwrap_or(0);
    plain(
        "etcd_server_quota_backend_bytes",
        "The quota of the database.",
        i64::try_from(quota).unwrap_or(i64::MAX),
    );
    show_gates(&gates);
    // A float, because no limit is shown as the largest number of 64 bits.
    float_gauge(
        "process_virtual_memory_max_bytes",
        "Virtual memory this process may use.",
    )
    .set(process::virtual_memory_limit().unwrap_or(u64::MAX) as f64);
    prometheus::register(Box::new(OpenFiles::new()?))?;
    prometheus::register(Box::new(Network::new()?))
}

fn show_gates(gates: &FeatureGates) {
    let features = gauges(
        "etcd_server_feature_enabled",
        "Whether a feature gate is on.",
        &["name", "stage"],
    );
    for (name, stage, enabled) in gates.states() {
        let stage = stage.as_str();
        features
            .with_label_values(&[name, stage])
            .set(enabled.into());
    }
}

/// A gauge of 1 that says something by its labels.
fn labelled(name: &str, help: &str, labels: &[&str], values: &[&str]) {
    gauges(name, help, labels).with_label_values(values).set(1);
}

fn plain(name: &str, help: &str, value: i64) {
    gauge(name, help).set(value);
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

/// What the network namespace of this process has received and sent, as the kernel counts it: a process alone is
/// not counted anywhere.
struct Network {
    /// One scrape at a time adds what is new.
    scrape: Mutex<()>,
    received: IntCounter,
    sent: IntCounter,
}

impl Network {
    fn new() -> prometheus::Result<Self> {
        Ok(Self {
            scrape: Mutex::new(()),
            received: IntCounter::new(
                "process_network_receive_bytes_total",
                "Bytes received over the network, by whoever shares it with this process.",
            )?,
            sent: IntCounter::new(
                "process_network_transmit_bytes_total",
                "Bytes sent over the network, by whoever shares it with this process.",
            )?,
        })
    }
}

impl Collector for Network {
    fn desc(&self) -> Vec<&Desc> {
        [self.received.desc(), self.sent.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _one = self.scrape.lock().unwrap_or_else(PoisonError::into_inner);
        let netstat = std::fs::read_to_string("/proc/self/net/netstat").unwrap_or_default();
        for (counter, name) in [(&self.received, "InOctets"), (&self.sent, "OutOctets")] {
            let octets = ip_extension(&netstat, name).unwrap_or(0);
            counter.inc_by(octets.saturating_sub(counter.get()));
        }
        [self.received.collect(), self.sent.collect()].concat()
    }
}

/// A number of the `IpExt` section: a line of names, and one of values.
fn ip_extension(netstat: &str, name: &str) -> Option<u64> {
    let mut lines = netstat
        .lines()
        .filter_map(|line| line.strip_prefix("IpExt: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let place = names.split_whitespace().position(|found| found == name)?;
    values.split_whitespace().nth(place)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_13_traffic_is_found_by_name() {
        let netstat = "TcpExt: SyncookiesSent InOctets\nTcpExt: 1 2\n\
                       IpExt: InNoRoutes InOctets OutOctets\nIpExt: 3 4 5\n";
        assert_eq!(ip_extension(netstat, "InOctets"), Some(4));
        assert_eq!(ip_extension(netstat, "OutOctets"), Some(5));
        assert_eq!(ip_extension(netstat, "InMcastPkts"), None);
        assert_eq!(ip_extension("", "InOctets"), None);
    }
}
