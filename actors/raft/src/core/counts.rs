//! What the core has counted, for the shell to publish.

use super::{Core, member};
use rusd_messages::Index;

/// Totals since the start of the core, and where it stands. The core itself publishes nothing of this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Leaders seen to take over.
    pub leader_changes: u64,
    /// Heartbeat intervals that a leader with followers let pass.
    pub late_heartbeats: u64,
    /// Read rounds repeated because no answer came.
    pub slow_read_rounds: u64,
    /// Read rounds that a change of leader or a timeout ended.
    pub failed_read_rounds: u64,
    /// Proposals that were not applied in time.
    pub failed_proposals: u64,
    /// Proposals that wait to be applied now.
    pub waiting_proposals: u64,
    /// The commit index.
    pub committed: Index,
    /// The index through which the state machine has applied the log.
    pub applied: Index,
    /// Whether a leader is known.
    pub has_leader: bool,
    /// Whether this member is in the leader state of Raft.
    pub leads: bool,
}

impl Core {
    /// What has been counted so far.
    pub fn counts(&self) -> Counts {
        Counts {
            leader_changes: self.leader_changes,
            late_heartbeats: self.late_heartbeats,
            slow_read_rounds: self.reads.slow_rounds(),
            failed_read_rounds: self.reads.failed_rounds(),
            failed_proposals: self.proposals.failed(),
            waiting_proposals: self.proposals.waiting() as u64,
            committed: Index(self.node.raft.raft_log.committed),
            applied: self.applied,
            has_leader: member(self.node.raft.leader_id).is_some(),
            leads: self.leads(),
        }
    }
}
