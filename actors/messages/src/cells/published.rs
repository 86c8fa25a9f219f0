//! The small replicated state. Writer: the state machine, which publishes a new value whenever it changes. Readers: the
//! handlers of requests, and the members actor.

use crate::MemberId;
use rusd_proto::etcdserverpb as pb;

/// Members, alarms and cluster version as of one applied entry.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Published {
    /// The members, in order of their ids.
    pub members: Vec<pb::Member>,
    /// Raised alarms, at most one of each kind for a member.
    pub alarms: Vec<pb::AlarmMember>,
    /// `major.minor.0`; None until a leader has decided it.
    pub cluster_version: Option<String>,
}

impl Published {
    /// Whether an alarm of this kind is raised by any member.
    pub fn has_alarm(&self, kind: pb::AlarmType) -> bool {
        self.alarms.iter().any(|a| a.alarm == kind as i32)
    }

    /// Whether this member has raised an alarm of this kind.
    pub fn has_alarm_of(&self, member: MemberId, kind: pb::AlarmType) -> bool {
        let alarm = pb::AlarmMember {
            member_id: member.0,
            alarm: kind as i32,
        };
        self.alarms.contains(&alarm)
    }
}
