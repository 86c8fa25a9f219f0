//! An engine whose records say anything: keys and their history, notes of the store, leases, members, alarms.
//!
//! A member that starts from it refuses it, or serves: reads and writes then end in answers, or in the word that the
//! store is damaged. What it has written it opens again.

use super::entries::{conf_changes, open, requests, write_out};
use super::{Case, Outcome, Target};
use prost::Message;
use rusd_proto::EtcdError;
use rusd_proto::etcdserverpb::{self as pb, InternalRaftRequest};
use rusd_proto::ids::{Index, RequestId, Revision, Term};
use rusd_state::kv::range;
use rusd_state::{Entry, EntryKind, KvError, StateError, StateMachine};
use rusd_storage::engine::{Engine, Memory, WriteBatch};
use rusd_storage::{At, KeyRange, ReadAt, ReadView, Record, StorageError};
use std::ops::ControlFlow;
use std::sync::Arc;

/// See the module.
pub const TARGET: Target = Target {
    name: "store",
    corpus,
    run,
    cases: 8_000,
};

/// Pages of history, steps of compaction: far more than the records of a case need.
const STEPS_MAX: usize = 10_000;

/// Keys and values by turns.
fn corpus() -> Vec<Case> {
    [3, 8, usize::MAX].into_iter().map(after).collect()
}

/// What an engine holds after the first requests.
fn after(count: usize) -> Case {
    let engine = Arc::new(Memory::new());
    let mut machine = open(engine.clone()).unwrap();
    let changes = conf_changes()
        .into_iter()
        .map(|change| (EntryKind::ConfChange, change.encode(RequestId(1))));
    let requests = requests()
        .into_iter()
        .map(|request| (EntryKind::Request, request.encode_to_vec().into()));
    for ((kind, data), index) in changes.chain(requests).take(count).zip(1..) {
        let entry = Entry {
            index: Index(index),
            term: Term(1),
            kind,
            data,
            wanted: false,
        };
        machine.apply(entry).unwrap();
    }
    write_out(&mut machine, engine.as_ref());
    let dump = engine.dump();
    dump.into_iter()
        .flat_map(|(key, value)| [key.to_vec(), value.to_vec()])
        .collect()
}

fn run(parts: &[Vec<u8>]) -> Outcome {
    for part in parts {
        peek(part);
    }
    let engine = Arc::new(Memory::new());
    let mut content = WriteBatch::new();
    for pair in parts.chunks_exact(2) {
        content.put(pair[0].clone(), pair[1].clone());
    }
    engine.write(&content).unwrap();
    let mut machine = match open(engine.clone()) {
        Ok(machine) => machine,
        Err(error) => return refused(&error),
    };
    if let Err(error) = read(&machine.views().load()) {
        return damaged(&error);
    }
    if let Err(error) = write(&mut machine) {
        return refused(&error);
    }
    write_out(&mut machine, engine.as_ref());
    if let Err(error) = read(&machine.views().load()) {
        return damaged(&error);
    }
    let (applied, revision) = (machine.applied(), machine.keys().revision());
    let again = open(engine).unwrap();
    assert_eq!(
        (applied, revision),
        (again.applied(), again.keys().revision())
    );
    Outcome::Accepted
}

/// The fields of a record, read one by one and all at once, agree.
fn peek(part: &[u8]) {
    let record = Record {
        bytes: part.to_vec().into(),
    };
    let (key, value, lease) = (record.key(), record.value(), record.lease());
    // Only the encoding that is stored is peeked at: every field at most once, in order.
    if let Ok(decoded) = record.decode()
        && decoded.encode_to_vec() == part
    {
        assert_eq!(key.unwrap(), decoded.key);
        assert_eq!(value.unwrap(), decoded.value);
        assert_eq!(lease.unwrap().0, decoded.lease);
    }
}

fn refused(error: &StateError) -> Outcome {
    match error {
        StateError::Damaged { .. } => {}
        StateError::Storage { error, .. } => {
            damaged(error);
        }
        _ => panic!("{error}"),
    }
    Outcome::Refused
}

fn damaged(error: &StorageError) -> Outcome {
    assert!(matches!(error, StorageError::Damaged(_)), "{error}");
    Outcome::Refused
}

/// What readers do, at every kind of revision.
fn read(view: &ReadView) -> Result<(), StorageError> {
    let (revision, compacted) = (view.revision(), view.compacted_revision());
    for at in [
        0,
        1,
        2,
        revision.0 / 2,
        revision.0 - 1,
        revision.0,
        compacted.0,
        i64::MAX,
    ] {
        for (limit, sort_target, sort_order) in [(0, 0, 0), (1, 0, 1), (2, 4, 2), (0, 2, 1)] {
            let request = pb::RangeRequest {
                key: "\0".into(),
                range_end: "\0".into(),
                revision: at,
                limit,
                sort_target,
                sort_order,
                ..Default::default()
            };
            replied(range::range(view, &request))?;
        }
        let at = At::from_wire(at);
        let walked = view.walk(&KeyRange::all(), at, &mut |_, _| ControlFlow::Continue(()));
        replied(walked.map_err(KvError::from))?;
        replied(view.hash_kv(at).map_err(KvError::from))?;
    }
    let mut from = compacted.max(Revision(1));
    for _ in 0..STEPS_MAX {
        if from > revision {
            return Ok(());
        }
        let page = view.history(from, revision, 100, true)?;
        assert!(page.next_revision > from);
        from = page.next_revision;
    }
    panic!("history does not end: {from} of {revision}");
}

/// An answer, or the word that the store is damaged.
fn replied<T>(result: Result<T, KvError>) -> Result<(), StorageError> {
    match result {
        Ok(_) | Err(KvError::Reply(EtcdError::Compacted | EtcdError::FutureRevision)) => Ok(()),
        Err(KvError::Reply(other)) => panic!("{other}"),
        Err(KvError::Storage(error)) => Err(error),
    }
}

/// What the log goes on with after a start.
fn write(machine: &mut StateMachine) -> Result<(), StateError> {
    let compaction = |revision| InternalRaftRequest {
        compaction: Some(pb::CompactionRequest {
            revision,
            physical: false,
        }),
        ..Default::default()
    };
    let middle = machine.keys().revision().0 / 2;
    let mut entries = requests();
    entries.insert(2, compaction(middle));
    entries.push(compaction(machine.keys().revision().0));
    for request in entries {
        let (Index(applied), term) = machine.applied();
        let Some(index) = applied.checked_add(1) else {
            return Ok(());
        };
        machine.apply(Entry {
            index: Index(index),
            term,
            kind: EntryKind::Request,
            data: request.encode_to_vec().into(),
            wanted: true,
        })?;
    }
    for _ in 0..STEPS_MAX {
        let step = machine.compact_step(3)?;
        if step.finished || step.blocked {
            return Ok(());
        }
    }
    panic!("compaction does not end");
}
