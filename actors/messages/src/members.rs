//! What the members actor receives.

use crate::Published;
use rusd_proto::etcdserverpb::AlarmType;
use std::sync::Arc;

/// Members, alarms or the cluster version changed.
#[derive(Clone, Debug)]
pub struct MembersChanged {
    /// What is now published.
    pub published: Arc<Published>,
}

/// A condition for an alarm was seen on this member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaiseAlarm {
    /// The kind of alarm.
    pub alarm: AlarmType,
}
