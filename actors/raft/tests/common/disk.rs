//! The log's disk in memory, for tests that drive the core themselves: it holds what was written, and survives the
//! core.

use raft::eraftpb::{Entry, EntryType};
use rusd_proto::conf_change;
use rusd_proto::etcdserverpb::Member;
use rusd_raft::LogError;
use rusd_raft::log::{Append, Conf, LogTail, StableEntries, Truncated, Vote};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// What is written.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub entries: BTreeMap<u64, Entry>,
    pub vote: Vote,
    pub conf: Conf,
    pub truncated: Truncated,
}

impl Disk {
    /// The index of the newest entry.
    pub fn last(&self) -> u64 {
        let newest = self.entries.keys().next_back();
        newest.copied().unwrap_or(self.truncated.index)
    }

    /// A write that is done. As a follower's log may, new entries take the place of those from their first index on.
    pub fn write(&mut self, append: &Append) {
        if let Some(first) = append.entries.first() {
            self.entries.split_off(&first.index);
        }
        let entries = append.entries.iter();
        self.entries
            .extend(entries.map(|entry| (entry.index, entry.clone())));
        self.vote = append.vote.unwrap_or(self.vote);
        if let Some(conf) = &append.conf {
            self.conf = Conf::clone(conf);
        }
        if let Some(truncated) = append.truncate {
            self.truncated = truncated;
            self.entries = self.entries.split_off(&(truncated.index + 1));
        }
    }
}

/// The disk, and the core's view of it.
#[derive(Clone, Debug, Default)]
pub struct SharedDisk(Arc<Mutex<Disk>>);

impl SharedDisk {
    /// A new log with one entry for each founder.
    pub fn founded(voters: Vec<u64>) -> Self {
        let mut disk = Disk::default();
        for (id, index) in voters.iter().zip(1..) {
            let mut entry = Entry::default();
            entry.set_entry_type(EntryType::EntryConfChange);
            entry.index = index;
            entry.term = 1;
            entry.data = founder(*id);
            disk.entries.insert(index, entry);
        }
        let last = disk.last();
        disk.vote = Vote {
            term: 1,
            vote: 0,
            commit: last,
            last_conf_change: last,
        };
        disk.conf.state.voters = voters;
        Self(Arc::new(Mutex::new(disk)))
    }

    pub fn lock(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap()
    }

    /// What a process finds at its start.
    pub fn tail(&self) -> LogTail {
        let disk = self.lock().clone();
        let last = disk.last();
        LogTail::new(
            Box::new(self.clone()),
            disk.vote,
            disk.conf,
            disk.truncated,
            last,
        )
    }
}

impl StableEntries for SharedDisk {
    fn entries(&self, low: u64, high: u64, max: Option<u64>) -> Result<Vec<Entry>, LogError> {
        let mut left = max.unwrap_or(u64::MAX);
        let mut found: Vec<Entry> = Vec::new();
        for (_, entry) in self.lock().entries.range(low..high) {
            let size = entry.data.len() as u64;
            if size > left && !found.is_empty() {
                break;
            }
            left = left.saturating_sub(size);
            found.push(entry.clone());
        }
        Ok(found)
    }

    fn term(&self, index: u64) -> Result<Option<u64>, LogError> {
        Ok(self.lock().entries.get(&index).map(|entry| entry.term))
    }
}

/// The data of the entry with which a member joins.
pub fn founder(id: u64) -> bytes::Bytes {
    conf_change::founder(Member {
        id,
        ..Member::default()
    })
}
