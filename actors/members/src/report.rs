//! What operators read in the log about members, alarms and the cluster version.

use crate::metrics::kind_name;
use crate::reconciler::{MembersConfig, TooOld};
use rusd_messages::{Published, fatal};
use rusd_proto::etcdserverpb::AlarmMember;

/// The replicated state says `now` what it did not say `before`.
pub(crate) fn changes(before: &Published, now: &Published) {
    if before.cluster_version != now.cluster_version {
        let from = before.cluster_version.as_deref().unwrap_or("unknown");
        let to = now.cluster_version.as_deref().unwrap_or("unknown");
        tracing::info!(from, "cluster-version" = to, "updated cluster version");
    }
    for alarm in only_in(&now.alarms, &before.alarms) {
        let from = format!("{:x}", alarm.member_id);
        tracing::warn!(alarm = kind_name(alarm), from, "alarm raised");
    }
    for alarm in only_in(&before.alarms, &now.alarms) {
        let from = format!("{:x}", alarm.member_id);
        tracing::warn!(alarm = kind_name(alarm), from, "alarm disarmed");
    }
}

fn only_in<'a>(
    these: &'a [AlarmMember],
    those: &'a [AlarmMember],
) -> impl Iterator<Item = &'a AlarmMember> {
    these.iter().filter(|alarm| !those.contains(alarm))
}

/// This member can serve.
pub(crate) fn joined(config: &MembersConfig) {
    tracing::info!(
        "local-member-id" = %config.member,
        name = config.name,
        "client-urls" = ?config.client_urls,
        "published local member to cluster through raft"
    );
}

/// Ends the process: a member that does not speak the cluster's version would misread its log.
pub(crate) fn refuse(TooOld { cluster, member }: TooOld) -> ! {
    let error = format!(
        "the cluster is at version {cluster}, and this member is started as version {member}, which is lower: \
         start it as version {cluster} or later"
    );
    fatal("joining the cluster", &error)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::version::ClusterVersion;
    use rusd_messages::Fatal;

    #[test]
    fn o_14_a_cluster_that_is_too_new_ends_the_process_in_an_operators_words() {
        let version = |minor| ClusterVersion { major: 3, minor };
        let too_old = TooOld {
            cluster: version(8),
            member: version(7),
        };
        let payload = std::panic::catch_unwind(|| refuse(too_old)).unwrap_err();
        let Fatal { error, .. } = payload.downcast_ref().unwrap();
        assert!(
            error.ends_with("start it as version 3.8.0 or later"),
            "{error}"
        );
    }
}
