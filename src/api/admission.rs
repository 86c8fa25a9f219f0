//! Which writes the quota admits, and the alarm that is raised when it does not.

use super::Context;
use rusd_messages::Reply;
use rusd_messages::members::RaiseAlarm;
use rusd_proto::EtcdError;
use rusd_proto::etcdserverpb as pb;
use rusd_state::kv::quota;

impl Context {
    /// Whether `cost_bytes` more fit the quota; if not, the alarm is raised before the caller is told (KV-P07).
    pub(super) async fn admit(&self, cost_bytes: u64) -> Result<(), EtcdError> {
        let Some(quota) = self.limits.quota_bytes else {
            return Ok(());
        };
        if quota::fits(cost_bytes, self.views.peek().sizes().logical_bytes, quota) {
            return Ok(());
        }
        self.raise(pb::AlarmType::Nospace).await;
        Err(EtcdError::NoSpace)
    }

    /// Raises an alarm of this member. Returns when it is raised, so that whoever is told of the condition finds the
    /// alarm; or when that takes longer than a request may.
    async fn raise(&self, alarm: pb::AlarmType) {
        if self.published.load().has_alarm_of(self.member, alarm) {
            return;
        }
        let (reply, raised) = Reply::channel();
        if let Err(error) = self.ports.raise_alarm.tell(RaiseAlarm { alarm, reply }) {
            tracing::warn!(
                ?error,
                alarm = alarm.as_str_name(),
                "cannot raise the alarm"
            );
            return;
        }
        if tokio::time::timeout(self.limits.request_timeout, raised)
            .await
            .is_err()
        {
            tracing::warn!(
                alarm = alarm.as_str_name(),
                "the alarm is not raised yet; it is proposed until it is"
            );
        }
    }
}
