//! Committed entries on their way to the state machine: in batches, within credits, stopping at membership changes.

use super::proposals::Proposals;
use crate::conf_change;
use crate::limits;
use crate::log::tail::size_of;
use raft::eraftpb::{ConfChangeV2, Entry};
use rusd_messages::mvcc::{Apply, CommittedEntry, EntryKind};
use rusd_messages::{Index, Term};
use rusd_proto::request::request_id;
use std::collections::VecDeque;

/// A membership change handed to the state machine: nothing more is handed on until it has answered.
pub(super) struct ConfBarrier {
    pub(super) index: Index,
    /// None if it is none for Raft, or if the entry cannot be read, which the state machine will find too.
    pub(super) change: Option<ConfChangeV2>,
}

struct Batch {
    through: Index,
    entries: usize,
    bytes: usize,
}

/// See the module.
pub(super) struct Applying {
    queue: VecDeque<Entry>,
    queue_bytes: usize,
    batches: VecDeque<Batch>,
    entries_out: usize,
    bytes_out: usize,
    handed_through: Index,
    barrier: Option<ConfBarrier>,
}

impl Applying {
    pub(super) fn new(applied: Index) -> Self {
        Self {
            queue: VecDeque::new(),
            queue_bytes: 0,
            batches: VecDeque::new(),
            entries_out: 0,
            bytes_out: 0,
            handed_through: applied,
            barrier: None,
        }
    }

    /// Takes in what raft-rs says is committed.
    pub(super) fn push(&mut self, entries: Vec<Entry>) {
        self.queue_bytes += entries.iter().map(size_of).sum::<usize>();
        self.queue.extend(entries);
    }

    /// Whether more committed entries are better left in the log.
    pub(super) fn is_full(&self) -> bool {
        self.queue_bytes >= limits::COMMITTED_QUEUE_BYTES_MAX
    }

    /// The last entry handed to the state machine.
    pub(super) fn handed_through(&self) -> Index {
        self.handed_through
    }

    /// The membership change that the state machine has not answered yet.
    pub(super) fn barrier(&self) -> Option<Index> {
        self.barrier.as_ref().map(|barrier| barrier.index)
    }

    /// The state machine has answered the membership change at `index`.
    pub(super) fn lift_barrier(&mut self, index: Index) -> Option<ConfBarrier> {
        self.barrier.take_if(|barrier| barrier.index == index)
    }

    /// Everything through `through` has been applied: its credits come back.
    pub(super) fn applied(&mut self, through: Index) {
        while let Some(batch) = self
            .batches
            .front()
            .filter(|batch| batch.through <= through)
        {
            self.entries_out -= batch.entries;
            self.bytes_out -= batch.bytes;
            self.batches.pop_front();
        }
    }

    /// See [`Core::check`](super::Core::check).
    pub(super) fn check(&self) {
        let mut next = self.handed_through;
        for entry in &self.queue {
            next.0 += 1;
            assert_eq!(entry.index, next.0, "queued entries are contiguous");
        }
        let queue_bytes: usize = self.queue.iter().map(size_of).sum();
        assert_eq!(self.queue_bytes, queue_bytes);
        let (entries, bytes) = self.batches.iter().fold((0, 0), |(entries, bytes), batch| {
            (entries + batch.entries, bytes + batch.bytes)
        });
        assert_eq!((self.entries_out, self.bytes_out), (entries, bytes));
        assert!(entries < limits::APPLY_CREDIT_ENTRIES + limits::APPLY_BATCH_ENTRIES_MAX);
        assert!(
            self.batches
                .iter()
                .is_sorted_by(|a, b| a.through < b.through)
        );
        if let Some(newest) = self.batches.back() {
            assert_eq!(newest.through, self.handed_through);
        }
    }

    /// The next batch, if there is one and the credits allow it.
    pub(super) fn next_batch(&mut self, proposals: &mut Proposals) -> Option<Apply> {
        let out_of_credit = self.entries_out >= limits::APPLY_CREDIT_ENTRIES
            || self.bytes_out >= limits::APPLY_CREDIT_BYTES;
        if self.barrier.is_some() || out_of_credit || self.queue.is_empty() {
            return None;
        }
        let mut entries = Vec::with_capacity(self.queue.len().min(limits::APPLY_BATCH_ENTRIES_MAX));
        let mut bytes = 0;
        while let Some(entry) = self.queue.front() {
            let size = size_of(entry);
            let full = entries.len() >= limits::APPLY_BATCH_ENTRIES_MAX
                || bytes + size > limits::APPLY_BATCH_BYTES_MAX;
            if full && !entries.is_empty() {
                break;
            }
            let Some(entry) = self.queue.pop_front() else {
                break;
            };
            bytes += size;
            let is_change = conf_change::is_conf_change(&entry);
            if is_change {
                self.barrier = Some(ConfBarrier {
                    index: Index(entry.index),
                    change: conf_change::decode(&entry).ok().flatten(),
                });
            }
            self.handed_through = Index(entry.index);
            entries.push(committed(entry, is_change, proposals));
            if is_change {
                break;
            }
        }
        self.queue_bytes -= bytes;
        self.entries_out += entries.len();
        self.bytes_out += bytes;
        self.batches.push_back(Batch {
            through: self.handed_through,
            entries: entries.len(),
            bytes,
        });
        Some(Apply { entries })
    }
}

fn committed(entry: Entry, is_change: bool, proposals: &mut Proposals) -> CommittedEntry {
    let (kind, reply) = if is_change {
        (EntryKind::ConfChange, None)
    } else {
        let reply = request_id(&entry.data).and_then(|id| proposals.claim(id));
        (EntryKind::Request, reply)
    };
    CommittedEntry {
        index: Index(entry.index),
        term: Term(entry.term),
        kind,
        data: entry.data,
        reply,
    }
}
