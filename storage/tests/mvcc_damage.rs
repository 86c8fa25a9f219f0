//! P7: what an engine holds is checked before it is believed.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use rusd_proto::ids::{LeaseId, Revision};
use rusd_storage::engine::{Engine, Memory, Tree, WriteBatch};
use rusd_storage::{LogPosition, MvccOptions, MvccStore, StorageError};

/// An engine with revisions 2 (put) and 3 (tombstone).
fn engine() -> Arc<Memory> {
    let engine = Arc::new(Memory::new());
    let mut store = MvccStore::open(engine.clone(), MvccOptions::default()).unwrap();
    let mut txn = store.begin();
    txn.put(b"key", b"value", LeaseId::NONE);
    txn.end();
    let mut txn = store.begin();
    txn.delete(&rusd_storage::KeyRange::all()).unwrap();
    txn.end();
    store.seal(LogPosition { index: 4, term: 1 });
    engine.write(&store.take_sealed().unwrap().batch).unwrap();
    engine
}

/// The engine key of a record.
fn record_key(main: u64, mark: &[u8]) -> Vec<u8> {
    Tree::KvRev.key(&[&main.to_be_bytes()[..], &[0; 4], mark].concat())
}

fn refusal(change: impl FnOnce(&mut WriteBatch)) -> String {
    let engine = engine();
    let mut batch = WriteBatch::new();
    change(&mut batch);
    engine.write(&batch).unwrap();
    match MvccStore::open(engine, MvccOptions::default()) {
        Err(StorageError::Damaged(reason)) => reason,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("opened"),
    }
}

#[test]
fn p7_an_intact_engine_opens() {
    let store = MvccStore::open(engine(), MvccOptions::default()).unwrap();
    assert_eq!(
        (store.current_revision(), store.applied().index),
        (Revision(3), 4)
    );
}

#[test]
fn p7_another_format_is_refused_by_name() {
    let reason = refusal(|batch| batch.put(Tree::Meta.key(b"format"), 2u32.to_be_bytes().to_vec()));
    assert_eq!(reason, "format 2 is not the format 1 that this build reads");
    let reason = refusal(|batch| batch.put(Tree::Meta.key(b"format"), "two"));
    assert_eq!(reason, "meta format is 3 bytes long");
}

#[test]
fn p7_records_without_a_format_are_refused() {
    refusal(|batch| batch.delete(Tree::Meta.key(b"format")));
}

#[test]
fn p7_a_record_beyond_the_applied_revision_is_refused() {
    let reason =
        refusal(|batch| batch.put(record_key(9, b""), "\x0a\x01k\x10\x09\x18\x09\x20\x01"));
    assert_eq!(
        reason,
        "the record of revision 9.0 lies beyond the applied revision 3"
    );
}

#[test]
fn p7_torn_records_and_keys_are_refused() {
    refusal(|batch| batch.put(record_key(2, b""), "\x0a\x7fk"));
    refusal(|batch| batch.put(record_key(2, b""), "\x0a\x01k\x10\x02\x18\x03\x20\x01"));
    refusal(|batch| batch.put(record_key(2, b""), "\x0a\x01k\x10\x02\x18\x02"));
    refusal(|batch| batch.put(record_key(2, b"?"), "\x0a\x01k"));
    refusal(|batch| batch.put(Tree::KvRev.key(b"short"), "\x0a\x01k"));
}

#[test]
fn p7_counts_that_nothing_reaches_are_refused() {
    let max = i64::MAX.to_be_bytes();
    let applied = [&[0; 16][..], &max].concat();
    let reason = refusal(|batch| batch.put(Tree::Meta.key(b"applied"), applied));
    assert!(reason.contains("was never reached"), "{reason}");
    let reason = refusal(|batch| batch.put(Tree::Meta.key(b"compact_scheduled"), max.to_vec()));
    assert!(reason.contains("was never reached"), "{reason}");

    // i64::MAX as a varint.
    let version = [&b"\x0a\x01k\x10\x02\x18\x02\x20"[..], &[0xff; 8], &[0x7f]].concat();
    refusal(|batch| batch.put(record_key(2, b""), version));
    let created_later = "\x0a\x01k\x10\x03\x18\x02\x20\x01";
    refusal(|batch| batch.put(record_key(2, b""), created_later));
}
