//! What the members actor receives.

use crate::{Published, Reply};
use rusd_proto::etcdserverpb::AlarmType;
use std::sync::Arc;

/// Members, alarms or the cluster version changed.
#[derive(Clone, Debug)]
pub struct MembersChanged {
    /// What is now published.
    pub published: Arc<Published>,
}

/// A condition for an alarm was seen on this member.
#[derive(Debug)]
pub struct RaiseAlarm {
    /// The kind of alarm.
    pub alarm: AlarmType,
    /// Answered once the alarm is raised, if by somebody else.
    pub reply: Reply<()>,
}
