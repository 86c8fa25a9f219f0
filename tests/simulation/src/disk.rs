//! The disk under the log. A batch is one record: after a power loss it is there as a whole, or not at all, and
//! none is there behind one that is not.
//!
//! It takes the place of raft-engine at the seam that the log offers, [`StableEntries`] and [`Append`]: records, not
//! bytes. What the log makes of a torn record's bytes is tried by its own tests.

use crate::random::Random;
use raft::eraftpb::{Entry, EntryType};
use rusd_messages::MemberId;
use rusd_proto::conf_change;
use rusd_proto::etcdserverpb::Member;
use rusd_raft::LogError;
use rusd_raft::log::{Append, Conf, LogTail, StableEntries, Truncated, Vote};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a log holds.
#[derive(Clone, Debug, Default)]
struct Content {
    entries: BTreeMap<u64, Entry>,
    vote: Vote,
    conf: Conf,
    truncated: Truncated,
}

impl Content {
    /// A log as it is set up for a lone member.
    fn founded(member: MemberId) -> Self {
        let mut entry = Entry::default();
        entry.set_entry_type(EntryType::EntryConfChange);
        entry.index = 1;
        entry.term = 1;
        entry.data = conf_change::founder(Member {
            id: member.0,
            ..Member::default()
        });
        let mut content = Self {
            entries: BTreeMap::from([(1, entry)]),
            vote: Vote {
                term: 1,
                vote: 0,
                commit: 1,
                last_conf_change: 1,
            },
            ..Self::default()
        };
        content.conf.state.voters = vec![member.0];
        content
    }

    fn last(&self) -> u64 {
        let last = self.entries.keys().next_back();
        last.copied().unwrap_or(self.truncated.index)
    }

    fn append(&mut self, append: &Append) {
        for entry in &append.entries {
            assert!(
                entry.index <= self.last() + 1,
                "a gap before entry {}",
                entry.index
            );
            self.entries.split_off(&entry.index);
            self.entries.insert(entry.index, entry.clone());
        }
        self.vote = append.vote.unwrap_or(self.vote);
        if let Some(conf) = &append.conf {
            self.conf = (**conf).clone();
        }
        if let Some(truncated) = append.truncate {
            self.truncated = truncated;
            self.entries = self.entries.split_off(&(truncated.index + 1));
        }
    }
}

/// What a process reads of the log: everything written, durable or not.
#[derive(Clone)]
struct Visible(Arc<Mutex<Content>>);

impl Visible {
    fn lock(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StableEntries for Visible {
    fn entries(&self, low: u64, high: u64, max_bytes: Option<u64>) -> Result<Vec<Entry>, LogError> {
        let mut left = max_bytes.unwrap_or(u64::MAX);
        let mut found = Vec::new();
        for entry in self.lock().entries.range(low..high).map(|(_, entry)| entry) {
            let bytes = entry.data.len() as u64;
            if bytes > left && !found.is_empty() {
                break;
            }
            left = left.saturating_sub(bytes);
            found.push(entry.clone());
        }
        Ok(found)
    }

    fn term(&self, index: u64) -> Result<Option<u64>, LogError> {
        Ok(self.lock().entries.get(&index).map(|entry| entry.term))
    }
}

/// See the module.
pub struct LogDisk {
    durable: Content,
    unsynced: VecDeque<Append>,
    visible: Visible,
}

impl LogDisk {
    /// The log of a lone member that has never started.
    pub fn founded(member: MemberId) -> Self {
        let durable = Content::founded(member);
        Self {
            visible: Visible(Arc::new(Mutex::new(durable.clone()))),
            durable,
            unsynced: VecDeque::new(),
        }
    }

    /// Writes a record, which a power loss may take away.
    pub fn write(&mut self, append: Append) {
        self.visible.lock().append(&append);
        self.unsynced.push_back(append);
    }

    /// Makes durable what was written.
    pub fn sync(&mut self) {
        for append in self.unsynced.drain(..) {
            self.durable.append(&append);
        }
    }

    /// The last entry that no crash can take away.
    pub fn durable_last(&self) -> u64 {
        self.durable.last()
    }

    /// The last entry that is gone.
    pub fn truncated(&self) -> Truncated {
        self.durable.truncated
    }

    /// The term of an entry, or of the last one that is gone.
    pub fn term(&self, index: u64) -> Option<u64> {
        if index == self.durable.truncated.index {
            return Some(self.durable.truncated.term);
        }
        self.durable.entries.get(&index).map(|entry| entry.term)
    }

    /// Power is lost while `in_flight` is being written: some of what was not synced is there, torn records are not.
    pub fn crash(&mut self, in_flight: Option<Append>, random: &mut Random) {
        let mut survivors = self.unsynced.len() + usize::from(in_flight.is_some());
        survivors = random.size(0..survivors + 1);
        self.unsynced.extend(in_flight);
        self.unsynced.truncate(survivors);
        self.sync();
        self.visible = Visible(Arc::new(Mutex::new(self.durable.clone())));
    }

    /// The log as a starting process opens it.
    pub fn open(&self) -> LogTail {
        let stable = Box::new(self.visible.clone());
        let Content {
            vote,
            ref conf,
            truncated,
            ..
        } = self.durable;
        LogTail::new(stable, vote, conf.clone(), truncated, self.durable.last())
    }
}
