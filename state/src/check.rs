//! What the state machine promises of itself.

use std::ops::ControlFlow;

use rusd_proto::ids::LeaseId;
use rusd_storage::{At, KeyRange, ReadAt};

use crate::machine::StateMachine;

impl StateMachine {
    /// Panics unless the parts of the machine agree. Visits every key: for scripts, models and fuzzing, of a state
    /// that this code has written.
    pub fn check(&self) {
        self.store().check();
        let (applied, _) = self.applied();
        assert!(
            self.store().applied().index <= applied.0,
            "more is sealed than was applied"
        );
        self.leases().check();
        self.alarms().check();
        self.members().check_order();
        self.check_attachments();
    }

    /// A key is attached to the lease that its record names.
    fn check_attachments(&self) {
        let (keys, leases) = (self.keys(), self.leases());
        let mut attached = 0;
        let walked = keys.walk(&KeyRange::all(), At::Newest, &mut |key, meta| {
            let record = keys.record(meta.mod_revision, At::Newest);
            let lease = leases.of_key(key);
            assert!(
                matches!(record.and_then(|record| record.lease()), Ok(named) if named == lease),
                "a key is attached to another lease than its record says"
            );
            attached += usize::from(lease != LeaseId::NONE);
            ControlFlow::Continue(())
        });
        assert!(walked.is_ok(), "the newest keys cannot be read");
        assert_eq!(attached, leases.attachments(), "a dead key is attached");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use prost::Message;
    use rusd_proto::etcdserverpb::{self as pb, InternalRaftRequest};
    use rusd_proto::ids::{Index, Term};
    use rusd_storage::engine::Memory;
    use rusd_storage::{MvccOptions, MvccStore};

    use super::*;
    use crate::machine::{Entry, EntryKind};

    fn machine() -> StateMachine {
        let store = MvccStore::open(Arc::new(Memory::new()), MvccOptions::default()).unwrap();
        let mut machine = StateMachine::open(store).unwrap();
        let grant = InternalRaftRequest {
            lease_grant: Some(pb::LeaseGrantRequest { id: 7, ttl: 60 }),
            ..Default::default()
        };
        let put = InternalRaftRequest {
            put: Some(pb::PutRequest {
                key: "k".into(),
                lease: 7,
                ..Default::default()
            }),
            ..Default::default()
        };
        for (request, index) in [grant, put].into_iter().zip(1..) {
            let entry = Entry {
                index: Index(index),
                term: Term(1),
                kind: EntryKind::Request,
                data: Bytes::from(request.encode_to_vec()),
                wanted: true,
            };
            machine.apply(entry).unwrap();
        }
        machine.check();
        machine
    }

    #[test]
    #[should_panic(expected = "a key is attached to another lease than its record says")]
    fn a_key_that_is_detached_by_mistake_is_seen() {
        let mut machine = machine();
        machine.leases_mut().attach(b"k", LeaseId::NONE);
        machine.check();
    }

    #[test]
    #[should_panic(expected = "a dead key is attached")]
    fn a_dead_key_that_is_attached_is_seen() {
        let mut machine = machine();
        machine.leases_mut().attach(b"never put", LeaseId(7));
        machine.check();
    }
}
