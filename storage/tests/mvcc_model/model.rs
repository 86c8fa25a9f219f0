//! etcd's semantics the slow and obvious way: every revision of every key, for ever.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use rusd_proto::ids::Revision;
use rusd_proto::mvccpb::KeyValue;
use rusd_storage::{Change, ChangeKind, KeyMeta, KeyRange, RecordRevision};

#[derive(Clone, Debug)]
pub enum Write {
    Put {
        key: Vec<u8>,
        value: Vec<u8>,
        lease: i64,
    },
    Delete(KeyRange),
}

#[derive(Clone, Debug)]
pub struct Stored {
    pub key: Vec<u8>,
    pub revision: RecordRevision,
    pub create: Revision,
    pub version: i64,
    pub tombstone: bool,
    pub stored: Vec<u8>,
    pub event: Vec<u8>,
}

impl Stored {
    pub fn meta(&self) -> KeyMeta {
        KeyMeta {
            mod_revision: self.revision,
            create_revision: self.create,
            version: self.version,
            record_bytes: self.stored.len() as u32,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Model {
    pub revision: Revision,
    pub compacted: Revision,
    histories: BTreeMap<Vec<u8>, Vec<Stored>>,
    /// What etcd's database holds once compaction is through.
    pub retained: BTreeMap<RecordRevision, Stored>,
}

impl Model {
    pub fn new() -> Self {
        Self {
            revision: Revision(1),
            compacted: Revision(-1),
            histories: BTreeMap::new(),
            retained: BTreeMap::new(),
        }
    }

    /// The newest record of a history that is not above `at`.
    fn newest(history: &[Stored], at: Revision) -> Option<&Stored> {
        history
            .iter()
            .rev()
            .find(|stored| stored.revision.main <= at)
    }

    pub fn alive_at(&self, range: &KeyRange, at: Revision) -> Vec<&Stored> {
        let alive = |history| Self::newest(history, at).filter(|stored| !stored.tombstone);
        self.histories
            .iter()
            .filter(|(key, _)| range.contains(key))
            .filter_map(|(_, history)| alive(history))
            .collect()
    }

    /// Leaves out writes that touch a key that an earlier one touches.
    pub fn drop_second_writes(&self, writes: &mut Vec<Write>) {
        let mut touched: BTreeSet<Vec<u8>> = BTreeSet::new();
        writes.retain(|write| match write {
            Write::Put { key, .. } => touched.insert(key.clone()),
            Write::Delete(range) => {
                let again = touched.iter().any(|key| range.contains(key));
                if !again {
                    touched.extend(
                        self.alive_at(range, self.revision)
                            .iter()
                            .map(|stored| stored.key.clone()),
                    );
                }
                !again
            }
        });
    }

    pub fn txn(&mut self, writes: &[Write]) -> Vec<Change> {
        let main = self.revision.next();
        let mut changes = Vec::new();
        for write in writes {
            match write {
                Write::Put { key, value, lease } => {
                    let alive = self
                        .alive_at(&KeyRange::One(key.clone().into()), main)
                        .first()
                        .map(|&stored| stored.clone());
                    let message = KeyValue {
                        key: key.clone().into(),
                        create_revision: alive.as_ref().map_or(main, |stored| stored.create).0,
                        mod_revision: main.0,
                        version: alive.as_ref().map_or(0, |stored| stored.version) + 1,
                        value: value.clone().into(),
                        lease: *lease,
                    };
                    let bytes = message.encode_to_vec();
                    self.push(
                        &mut changes,
                        message,
                        bytes.clone(),
                        bytes,
                        false,
                        alive.map(|stored| stored.revision),
                    );
                }
                Write::Delete(range) => {
                    let doomed: Vec<Stored> =
                        self.alive_at(range, main).into_iter().cloned().collect();
                    for stored in doomed {
                        let key_only = KeyValue {
                            key: stored.key.clone().into(),
                            ..KeyValue::default()
                        };
                        let event = KeyValue {
                            mod_revision: main.0,
                            ..key_only.clone()
                        };
                        let (stored_bytes, event_bytes) =
                            (key_only.encode_to_vec(), event.encode_to_vec());
                        self.push(
                            &mut changes,
                            event,
                            stored_bytes,
                            event_bytes,
                            true,
                            Some(stored.revision),
                        );
                    }
                }
            }
        }
        if !changes.is_empty() {
            self.revision = main;
        }
        changes
    }

    fn push(
        &mut self,
        changes: &mut Vec<Change>,
        message: KeyValue,
        stored: Vec<u8>,
        event: Vec<u8>,
        tombstone: bool,
        previous: Option<RecordRevision>,
    ) {
        let revision = RecordRevision {
            main: self.revision.next(),
            sub: changes.len() as i64,
        };
        changes.push(Change {
            key: message.key.clone(),
            kind: if tombstone {
                ChangeKind::Delete
            } else {
                ChangeKind::Put
            },
            record: event.clone().into(),
            revision,
            previous,
        });
        let stored = Stored {
            key: message.key.to_vec(),
            revision,
            create: Revision(message.create_revision),
            version: message.version,
            tombstone,
            stored,
            event,
        };
        self.retained.insert(revision, stored.clone());
        self.histories
            .entry(stored.key.clone())
            .or_default()
            .push(stored);
    }

    pub fn compact(&mut self, revision: Revision) {
        self.compacted = revision;
        let keep: BTreeSet<RecordRevision> = self
            .histories
            .values()
            .filter_map(|history| Self::newest(history, revision))
            .filter(|newest| !newest.tombstone || newest.revision.main == revision)
            .map(|newest| newest.revision)
            .collect();
        self.retained
            .retain(|at, _| at.main > revision || keep.contains(at));
    }

    pub fn is_tombstone(&self, revision: RecordRevision) -> bool {
        self.histories
            .values()
            .flatten()
            .any(|stored| stored.revision == revision && stored.tombstone)
    }

    /// HashKV as etcd goes about it: over its database, with the set of revisions it would keep at `revision`.
    pub fn hash_kv(&self, revision: Revision) -> Option<u32> {
        if revision > self.revision || (revision > Revision(0) && revision < self.compacted) {
            return None;
        }
        Some(self.hash(revision, &self.alive_revisions(revision)))
    }

    /// The hash that etcd keeps of a compaction, as of just before it: there a tombstone at the compacted revision
    /// counts among the revisions to keep.
    pub fn compaction_hash(&self, revision: Revision) -> u32 {
        let mut keep = self.alive_revisions(revision);
        let tombstones = self.histories.values().flatten();
        keep.extend(
            tombstones
                .filter(|stored| stored.tombstone && stored.revision.main == revision)
                .map(|stored| stored.revision),
        );
        self.hash(revision, &keep)
    }

    fn alive_revisions(&self, at: Revision) -> BTreeSet<RecordRevision> {
        let alive = self.alive_at(&KeyRange::all(), at);
        alive.iter().map(|stored| stored.revision).collect()
    }

    fn hash(&self, through: Revision, keep: &BTreeSet<RecordRevision>) -> u32 {
        let mut hashed = b"key".to_vec();
        for (at, stored) in self.retained.range(
            ..RecordRevision {
                main: through.next(),
                sub: 0,
            },
        ) {
            if at.main <= self.compacted && !keep.is_empty() && !keep.contains(at) {
                continue;
            }
            if at.main == self.compacted && stored.tombstone {
                continue;
            }
            hashed.extend((at.main.0 as u64).to_be_bytes());
            hashed.push(b'_');
            hashed.extend((at.sub as u64).to_be_bytes());
            if stored.tombstone {
                hashed.push(b't');
            }
            hashed.extend(&stored.stored);
        }
        crc32c::crc32c(&hashed)
    }

    /// All changes from `from` on, with the record each replaced where that is still readable.
    pub fn history(&self, from: Revision) -> Vec<(Revision, Vec<Change>)> {
        let mut all: BTreeMap<RecordRevision, &Stored> = BTreeMap::new();
        for stored in self
            .histories
            .values()
            .flatten()
            .filter(|stored| stored.revision.main >= from)
        {
            all.insert(stored.revision, stored);
        }
        let mut pages: Vec<(Revision, Vec<Change>)> = Vec::new();
        for stored in all.into_values() {
            let before = stored.revision.main.previous();
            let previous = Self::newest(&self.histories[&stored.key], before)
                .filter(|stored| !stored.tombstone);
            let change = Change {
                key: stored.key.clone().into(),
                kind: if stored.tombstone {
                    ChangeKind::Delete
                } else {
                    ChangeKind::Put
                },
                record: stored.event.clone().into(),
                revision: stored.revision,
                previous: previous
                    .filter(|_| before >= self.compacted)
                    .map(|stored| stored.revision),
            };
            match pages.last_mut() {
                Some((main, changes)) if *main == stored.revision.main => changes.push(change),
                _ => pages.push((stored.revision.main, vec![change])),
            }
        }
        pages
    }
}
