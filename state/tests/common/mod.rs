//! A state machine over a memory engine, fed with requests as log entries.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use rusd_proto::etcdserverpb::InternalRaftRequest;
use rusd_proto::ids::{Index, Revision, Term};
use rusd_state::{Applied, Entry, EntryKind, StateError, StateMachine};
use rusd_storage::engine::{Engine, Memory};
use rusd_storage::{At, MvccOptions, MvccStore};

/// A machine, its engine, and the position of the log.
pub struct Node {
    pub engine: Arc<dyn Engine>,
    pub machine: StateMachine,
}

impl Node {
    pub fn new() -> Self {
        Self::over(Arc::new(Memory::new()))
    }

    /// A small ring: reads go to the engine as well.
    pub fn over(engine: Arc<dyn Engine>) -> Self {
        let options = MvccOptions {
            ring_bytes: 64,
            ..MvccOptions::default()
        };
        let store = MvccStore::open(engine.clone(), options).unwrap();
        Self {
            engine,
            machine: StateMachine::open(store).unwrap(),
        }
    }

    pub fn apply_entry(&mut self, entry: Entry) -> Result<Option<Applied>, StateError> {
        let applied = self.machine.apply(entry)?;
        self.machine.check();
        Ok(applied)
    }

    /// Applies the next entry.
    pub fn apply_data(&mut self, kind: EntryKind, data: Bytes) -> Result<Applied, StateError> {
        let (index, _) = self.machine.applied();
        let entry = Entry {
            index: Index(index.0 + 1),
            term: Term(1),
            kind,
            data,
            wanted: true,
        };
        let applied = self.machine.apply(entry)?.unwrap();
        self.machine.check();
        Ok(applied)
    }

    pub fn apply(&mut self, request: InternalRaftRequest) -> Result<Applied, StateError> {
        self.apply_data(EntryKind::Request, request.encode_to_vec().into())
    }

    /// Seals, publishes, and writes to the engine.
    pub fn flush(&mut self) {
        self.machine.seal();
        self.machine.publish();
        if let Some(sealed) = self.machine.take_sealed() {
            self.engine.write(&sealed.batch).unwrap();
            self.machine.wrote(sealed.seq);
        }
    }

    /// Starts again from what the engine holds; what was not flushed is lost.
    pub fn restart(&mut self) {
        *self = Self::over(self.engine.clone());
        self.machine.check();
    }

    pub fn hash_kv(&mut self, at: At) -> (u32, Revision, Revision) {
        self.machine.seal();
        self.machine.publish();
        let hash = self.machine.views().hash_kv(at).unwrap();
        (hash.hash, hash.revision, hash.compact_revision)
    }
}
