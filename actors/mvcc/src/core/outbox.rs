//! What a batch of entries owes to others, in the one right order.
//!
//! ```text
//!   Published     first: whoever hears of a change finds it in the newest view, and counted in the gauges
//!   Applied       before the replies: Raft goes on while callers wake up
//!   Members       \
//!   Leases         | before the replies: what a caller asks members, lease timer, Raft, compactor or hub after its
//!   ConfApplied    | answer, they answer knowing of its change
//!   Compacted      |
//!   Committed     /
//!   Replies
//!   Write         last: nobody waits for the engine
//! ```
//!
//! The core itself puts `Published`, `Applied` and `Members` before the rest and `Write` behind it.

use super::Effect;
use super::hub::Hub;
use rusd_messages::Reply;
use rusd_messages::compactor::CompactionPending;
use rusd_messages::lease::{LeaseChange, LeasesChanged};
use rusd_messages::raft::ConfApplied;
use rusd_messages::watch::{Compacted, RevisionEvents};
use rusd_proto::ApplyResult;
use rusd_storage::CompactionHash;

pub(super) struct Outbox {
    pub(super) members_changed: bool,
    pub(super) leases: Vec<LeaseChange>,
    pub(super) conf_changes: Vec<ConfApplied>,
    pub(super) hash: Option<CompactionHash>,
    pub(super) compacted: Option<i64>,
    pub(super) newest_revision: Option<i64>,
    /// The events of each revision, from the oldest on; None if nobody watches.
    pub(super) revisions: Option<Vec<RevisionEvents>>,
    pub(super) replies: Vec<(Reply<ApplyResult>, ApplyResult)>,
}

impl Outbox {
    pub(super) fn new(with_events: bool) -> Self {
        Self {
            members_changed: false,
            leases: Vec::new(),
            conf_changes: Vec::new(),
            hash: None,
            compacted: None,
            newest_revision: None,
            revisions: with_events.then(Vec::new),
            replies: Vec::new(),
        }
    }

    pub(super) fn empty_into(self, hub: &mut Hub, effects: &mut Vec<Effect>) {
        if !self.leases.is_empty() {
            effects.push(Effect::Leases(LeasesChanged {
                changes: self.leases,
            }));
        }
        effects.extend(self.conf_changes.into_iter().map(Effect::ConfApplied));
        effects.extend(self.hash.map(Effect::Hash));
        if let Some(revision) = self.compacted {
            effects.push(Effect::Compacted(Compacted { revision }));
            effects.push(Effect::CompactionPending(CompactionPending { revision }));
        }
        if let Some(newest) = self.newest_revision {
            hub.tell(newest, self.revisions, effects);
        }
        if !self.replies.is_empty() {
            effects.push(Effect::Replies(self.replies));
        }
    }
}
