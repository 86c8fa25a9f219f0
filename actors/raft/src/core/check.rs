//! What always holds after the core has been driven.

use super::Core;
use raft::Storage;
use rusd_messages::Index;

impl Core {
    /// Panics if the core contradicts itself. For scripts, models and simulators, after each turn: it looks at
    /// everything that is queued, and may be called only when nothing has come in since the core was driven.
    pub fn check(&self) {
        self.check_order();
        self.applying.check();
        self.proposals.check();
        self.reads.check();
        self.membership.check();
        self.node.store().check();
        let collecting = &self.collecting.entries;
        assert!(collecting.is_sorted_by(|a, b| a.index + 1 == b.index));
        let readies = self.after_persist.iter().map(|(ready, _)| *ready);
        assert!(readies.is_sorted());
    }

    /// The part of [`Core::check`] that costs nothing, so that every debug build makes it.
    pub(super) fn check_order(&self) {
        let log = &self.node.raft.raft_log;
        let handed = self.applying.handed_through();
        let truncated = Index(self.node.store().truncated().index);
        let positions = [
            truncated,
            self.applied,
            self.acknowledged,
            handed,
            Index(log.committed.min(log.persisted)),
            Index(log.last_index()),
        ];
        assert!(
            positions.is_sorted(),
            "truncated, applied, acknowledged, handed on, committed and persisted, last: {positions:?}"
        );
        if let Some(barrier) = self.applying.barrier() {
            assert!(
                self.applied < barrier,
                "a change is settled before it counts as applied"
            );
            assert_eq!(
                barrier, handed,
                "nothing behind an unsettled change is handed on"
            );
        }

        assert!(self.persisted_through <= self.newest_ready);
        if let Some(in_flight) = self.in_flight {
            assert!(self.persisted_through <= in_flight && in_flight <= self.newest_ready);
        } else {
            assert!(
                self.collecting.is_empty(),
                "a batch waits though no write is in flight"
            );
        }
        if let Some((oldest, _)) = self.after_persist.first() {
            assert!(
                *oldest > self.persisted_through,
                "a message is held back, and what it waited for is on disk"
            );
        }
        if let Some(last) = self.collecting.entries.last() {
            assert_eq!(Ok(last.index), self.node.store().last_index());
        }
        if self.status.reads_are_local() {
            assert!(
                self.leads() && self.membership.stays_sole_voter() && !self.stopping,
                "reads are answered here, and somebody else may have acknowledged a write"
            );
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::log::{Conf, LogError, LogTail, StableEntries, Truncated, Vote};
    use crate::{Core, CoreConfig};
    use raft::eraftpb::Entry;
    use rusd_messages::{MemberId, RaftStatus};
    use std::sync::Arc;

    struct Empty;

    impl StableEntries for Empty {
        fn entries(&self, _: u64, _: u64, _: Option<u64>) -> Result<Vec<Entry>, LogError> {
            Ok(Vec::new())
        }

        fn term(&self, _: u64) -> Result<Option<u64>, LogError> {
            Ok(None)
        }
    }

    fn core() -> Core {
        let mut conf = Conf::default();
        conf.state.voters = vec![1, 2];
        let (vote, truncated) = (Vote::default(), Truncated::default());
        let tail = LogTail::new(Box::new(Empty), vote, conf, truncated, 0);
        let config = CoreConfig {
            member: MemberId(1),
            applied: Index(0),
            heartbeat_ms: 100,
            election_ms: 1_000,
            pre_vote: true,
            incarnation: 1,
            priority_requests: false,
        };
        Core::new(config, tail, Arc::new(RaftStatus::default())).unwrap()
    }

    #[test]
    fn a_new_core_is_sound() {
        core().check();
    }

    #[test]
    #[should_panic(expected = "truncated, applied, acknowledged")]
    fn an_applied_index_beyond_what_was_handed_on_is_noticed() {
        let mut core = core();
        core.applied = Index(1);
        core.check();
    }

    #[test]
    #[should_panic(expected = "reads are answered here")]
    fn local_reads_beside_another_voter_are_noticed() {
        let core = core();
        core.status.set_reads_are_local(true);
        core.check();
    }
}
