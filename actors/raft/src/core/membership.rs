//! Who votes, and whether that is about to change.

use crate::conf_change;
use crate::log::{Conf, LogTail};
use raft::eraftpb::{ConfState, Entry};
use raft::{GetEntriesContext, Storage};
use rusd_messages::{Index, MemberId};
use std::collections::VecDeque;

/// Bytes of log read at a time while looking for membership changes at start.
const SCAN_BYTES: u64 = 4 << 20;

/// A membership change in the log that is not part of the configuration yet.
#[derive(Clone, Copy, Debug)]
struct Unapplied {
    index: Index,
    gives_others_a_vote: bool,
}

/// The configuration, and the changes to it that the log holds beyond.
pub(super) struct Membership {
    me: MemberId,
    conf: Conf,
    unapplied: VecDeque<Unapplied>,
}

impl Membership {
    pub(super) fn new(me: MemberId, conf: Conf) -> Self {
        Self {
            me,
            conf,
            unapplied: VecDeque::new(),
        }
    }

    pub(super) fn conf(&self) -> &Conf {
        &self.conf
    }

    /// Looks at entries that enter the log; they replace what there is from the first one's index on.
    /// Returns the newest membership change among them.
    pub(super) fn note(&mut self, entries: &[Entry]) -> Option<Index> {
        if let Some(first) = entries.first() {
            while self
                .unapplied
                .back()
                .is_some_and(|change| change.index.0 >= first.index)
            {
                self.unapplied.pop_back();
            }
        }
        let before = self.unapplied.len();
        let changes = entries
            .iter()
            .filter(|entry| conf_change::is_conf_change(entry));
        self.unapplied.extend(changes.map(|entry| Unapplied {
            index: Index(entry.index),
            gives_others_a_vote: conf_change::gives_others_a_vote(entry, self.me),
        }));
        self.unapplied
            .iter()
            .skip(before)
            .next_back()
            .map(|change| change.index)
    }

    /// The change at `index` is settled: this is the configuration now.
    pub(super) fn settle(&mut self, index: Index, state: Option<ConfState>) {
        while self
            .unapplied
            .front()
            .is_some_and(|change| change.index <= index)
        {
            self.unapplied.pop_front();
        }
        self.conf.index = index.0;
        if let Some(state) = state {
            self.conf.state = state;
        }
    }

    /// Whether a change at or below `committed` waits to be applied.
    pub(super) fn any_unapplied_through(&self, committed: Index) -> bool {
        self.unapplied
            .front()
            .is_some_and(|change| change.index <= committed)
    }

    /// See [`Core::check`](super::Core::check).
    pub(super) fn check(&self) {
        let unapplied = self.unapplied.iter().map(|change| change.index.0);
        let conf = std::iter::once(self.conf.index);
        assert!(
            conf.chain(unapplied).is_sorted_by(|a, b| a < b),
            "a change is part of the configuration, and yet to be"
        );
    }

    /// Whether this member alone decides.
    pub(super) fn is_sole_voter(&self) -> bool {
        self.conf.state.voters == [self.me.0] && self.conf.state.voters_outgoing.is_empty()
    }

    /// Whether this member alone decides, and no change in the log, applied or not, gives anybody else a vote.
    pub(super) fn stays_sole_voter(&self) -> bool {
        self.is_sole_voter()
            && !self
                .unapplied
                .iter()
                .any(|change| change.gives_others_a_vote)
    }

    pub(super) fn is_learner(&self) -> bool {
        self.conf.state.learners.contains(&self.me.0)
    }

    pub(super) fn is_voter(&self, member: MemberId) -> bool {
        self.conf.state.voters.contains(&member.0)
    }
}

/// The membership changes in the log beyond the stored configuration. The log names the newest one, so that
/// nothing is read when there is none.
pub(super) fn changes_beyond_conf(tail: &LogTail) -> raft::Result<Vec<Entry>> {
    let mut found = Vec::new();
    let mut from = tail.conf().index.max(tail.truncated().index) + 1;
    let through = tail.vote().last_conf_change.min(tail.last());
    while from <= through {
        let entries = tail.entries(
            from,
            through + 1,
            SCAN_BYTES,
            GetEntriesContext::empty(false),
        )?;
        let Some(last) = entries.last() else { break };
        from = last.index + 1;
        found.extend(entries.into_iter().filter(conf_change::is_conf_change));
    }
    Ok(found)
}
