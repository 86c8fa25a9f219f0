//! etcd's metrics of members and alarms.

use crate::version::ClusterVersion;
use prometheus::IntGaugeVec;
use rusd_messages::Published;
use rusd_messages::metrics::gauges;
use rusd_proto::etcdserverpb::{AlarmMember, AlarmType};
use std::sync::LazyLock;

static CLUSTER_VERSION: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    gauges(
        "etcd_cluster_version",
        "Which version is running. 1 for 'cluster_version' label with current cluster version",
        &["cluster_version"],
    )
});

static ALARMS: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    gauges(
        "etcd_debugging_server_alarms",
        "Alarms for every member in cluster. 1 for 'server_id' label with current ID. \
         2 for 'alarm_type' label with type of this alarm",
        &["server_id", "alarm_type"],
    )
});

/// Makes them visible from the start.
pub(crate) fn init() {
    LazyLock::force(&CLUSTER_VERSION);
    LazyLock::force(&ALARMS);
}

/// The name of an alarm's kind, as etcd prints it.
pub(crate) fn kind_name(alarm: &AlarmMember) -> &'static str {
    AlarmType::try_from(alarm.alarm).map_or("unknown", |kind| kind.as_str_name())
}

/// Shows what is published now instead of what was before.
pub(crate) fn show(before: &Published, now: &Published) {
    if before.cluster_version != now.cluster_version {
        show_version(before.cluster_version.as_deref(), 0);
        show_version(now.cluster_version.as_deref(), 1);
    }
    for (alarms, value) in [(&before.alarms, 0), (&now.alarms, 1)] {
        for alarm in alarms {
            let member = format!("{:x}", alarm.member_id);
            ALARMS
                .with_label_values(&[member.as_str(), kind_name(alarm)])
                .set(value);
        }
    }
}

fn show_version(version: Option<&str>, value: i64) {
    if let Some(Ok(ClusterVersion { major, minor })) = version.map(str::parse) {
        CLUSTER_VERSION
            .with_label_values(&[format!("{major}.{minor}").as_str()])
            .set(value);
    }
}
