//! P2 and P8: members agree, however they batch, and wherever they restart.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::Node;
use proptest::prelude::*;
use prost::Message;
use rusd_model::{generate, request};
use rusd_proto::ids::{Index, LeaseId, Term};
use rusd_proto::{ApplyResult, etcdserverpb::InternalRaftRequest};
use rusd_state::{Effect, Entry, EntryKind};
use rusd_storage::engine::{EngineKind, EngineOptions};
use rusd_storage::{At, ReadAt};

/// What a member does after an entry, on its own account.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    Nothing,
    /// Seals a batch that the engine does not get yet.
    Seal,
    /// Publishes and writes what was sealed.
    Flush,
    CompactStep(usize),
    /// Dies and comes back with what the engine has.
    Crash,
}

fn then() -> impl Strategy<Value = Then> {
    prop_oneof![
        4 => Just(Then::Nothing),
        2 => Just(Then::Seal),
        3 => Just(Then::Flush),
        2 => (1..6usize).prop_map(Then::CompactStep),
        1 => Just(Then::Crash),
    ]
}

fn log(requests: &[InternalRaftRequest], wanted: bool) -> Vec<Entry> {
    let entry = |(n, request): (usize, &InternalRaftRequest)| Entry {
        index: Index(n as u64 + 1),
        term: Term(1 + n as u64 / 10),
        kind: EntryKind::Request,
        data: request.encode_to_vec().into(),
        wanted,
    };
    requests.iter().enumerate().map(entry).collect()
}

struct Outcome {
    result: ApplyResult,
    changes: Vec<rusd_storage::Change>,
    effects: Vec<Effect>,
}

/// Runs the log to its end; after a crash the entries that were lost are applied again, with the same outcome.
fn run(log: &[Entry], schedule: &[Then]) -> Result<(Node, Vec<Outcome>), TestCaseError> {
    let mut node = Node::new();
    let mut outcomes: Vec<Outcome> = Vec::new();
    let mut schedule = schedule.iter().cycle();
    let mut crashes = 0;
    loop {
        let (applied, _) = node.machine.applied();
        let Some(entry) = log.get(applied.0 as usize) else {
            break;
        };
        let applied = node.apply_entry(entry.clone()).unwrap().unwrap();
        let at = entry.index.0 as usize - 1;
        let outcome = Outcome {
            result: applied.result,
            changes: applied.changes,
            effects: applied.effects,
        };
        match outcomes.get(at) {
            Some(first) => {
                prop_assert_eq!(&first.result, &outcome.result);
                prop_assert_eq!(&first.changes, &outcome.changes);
                prop_assert_eq!(&first.effects, &outcome.effects);
            }
            None => outcomes.push(outcome),
        }
        match schedule.next().unwrap() {
            Then::Nothing => {}
            Then::Seal => node.machine.seal(),
            Then::Flush => node.flush(),
            Then::CompactStep(records) => {
                node.machine.compact_step(*records).unwrap();
            }
            Then::Crash if crashes < 20 => {
                crashes += 1;
                node.restart();
                // Delivered again, it is passed over.
                let (applied, _) = node.machine.applied();
                if let Some(old) = (applied.0 as usize)
                    .checked_sub(1)
                    .and_then(|at| log.get(at))
                {
                    prop_assert!(node.apply_entry(old.clone()).unwrap().is_none());
                }
            }
            Then::Crash => node.flush(),
        }
    }
    Ok((node, outcomes))
}

/// Leases with their keys, alarms, and the keys of all revisions.
fn state(node: &mut Node) -> impl PartialEq + std::fmt::Debug + use<> {
    let machine = &node.machine;
    let mut leases: Vec<_> = machine
        .leases()
        .iter()
        .map(|(id, lease)| {
            let keys: Vec<_> = machine.leases().keys(id).unwrap().cloned().collect();
            (id, lease, keys)
        })
        .collect();
    leases.sort_by_key(|(id, ..)| *id);
    let (revision, compacted) = (
        machine.keys().revision(),
        machine.keys().compacted_revision(),
    );
    let alarms = machine.alarms().list(0);
    let hashes: Vec<_> = (compacted.0.max(1)..=revision.0)
        .map(|at| node.hash_kv(At::from_wire(at)))
        .collect();
    (leases, alarms, revision, compacted, hashes)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn members_agree_whatever_their_schedules(
        requests in prop::collection::vec(generate::proposal(), 1..60),
        one in prop::collection::vec(then(), 1..20),
        other in prop::collection::vec(then(), 1..20),
    ) {
        let log = log(&requests, true);
        let (mut a, outcomes_a) = run(&log, &one)?;
        let (mut b, outcomes_b) = run(&log, &other)?;
        for (n, (a, b)) in outcomes_a.iter().zip(&outcomes_b).enumerate() {
            prop_assert_eq!(&a.result, &b.result, "entry {}: {:?}", n + 1, requests[n]);
            prop_assert_eq!(&a.changes, &b.changes, "entry {}: {:?}", n + 1, requests[n]);
            prop_assert_eq!(&a.effects, &b.effects, "entry {}: {:?}", n + 1, requests[n]);
        }
        prop_assert_eq!(state(&mut a), state(&mut b));
    }

    #[test]
    fn kv_t13_a_member_where_nobody_waits_for_replies_agrees_too(
        requests in prop::collection::vec(generate::proposal(), 1..60),
    ) {
        let (mut a, outcomes_a) = run(&log(&requests, true), &[Then::Flush])?;
        let (mut b, outcomes_b) = run(&log(&requests, false), &[Then::Flush])?;
        for (a, b) in outcomes_a.iter().zip(&outcomes_b) {
            prop_assert_eq!(a.result.is_ok(), b.result.is_ok());
            prop_assert_eq!(&a.changes, &b.changes);
            prop_assert_eq!(&a.effects, &b.effects);
        }
        prop_assert_eq!(state(&mut a), state(&mut b));
    }

    #[test]
    fn a_restart_after_any_entry_changes_nothing(
        requests in prop::collection::vec(generate::proposal(), 1..25),
    ) {
        let log = log(&requests, true);
        let (mut whole, _) = run(&log, &[Then::Flush])?;
        let expected = state(&mut whole);
        for cut in 0..log.len() {
            let mut schedule = vec![Then::Nothing; log.len() * 2];
            schedule[cut / 2] = Then::Flush;
            schedule[cut] = Then::Crash;
            let (mut restarted, _) = run(&log, &schedule)?;
            prop_assert_eq!(&state(&mut restarted), &expected);
        }
    }
}

#[test]
fn a_gap_in_the_log_stops_the_member() {
    let mut node = Node::new();
    let entries = log(&vec![request::grant(1, 1); 3], true);
    node.apply_entry(entries[0].clone()).unwrap();
    let error = node.apply_entry(entries[2].clone()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "log entry 3 follows entry 1: entries in between are missing"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// P7: an entry is applied, answered with an error, or refused; it never panics.
    #[test]
    fn no_bytes_in_the_log_bring_the_member_down_unawares(
        requests in prop::collection::vec(generate::proposal(), 1..10),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        noise: Vec<u8>,
    ) {
        let mut node = Node::new();
        for request in requests {
            let mut data = request.encode_to_vec();
            for (at, byte) in &flips {
                let at = at.index(data.len());
                data[at] ^= byte;
            }
            for kind in [EntryKind::Request, EntryKind::ConfChange] {
                let _ = node.apply_data(kind, data.clone().into());
                let _ = node.apply_data(kind, noise.clone().into());
            }
        }
        node.flush();
    }
}

#[test]
fn l_11_leases_and_their_keys_survive_on_every_engine() {
    for kind in [EngineKind::Sled, EngineKind::Redb] {
        let dir = tempfile::tempdir().unwrap();
        let options = EngineOptions {
            kind,
            ..EngineOptions::default()
        };
        let engine = rusd_storage::engine::open(dir.path(), &options).unwrap();
        let mut node = Node::over(engine);
        node.apply(request::grant(1, 60)).unwrap();
        for (key, value, lease) in [("a", 10, 1), ("b", 100_000, 1), ("a", 10, 0), ("c", 0, 1)] {
            let request = rusd_proto::etcdserverpb::PutRequest {
                key: key.into(),
                value: vec![7; value].into(),
                lease,
                ..Default::default()
            };
            assert!(node.apply(request::put(request)).unwrap().result.is_ok());
        }
        node.flush();
        let before = state(&mut node);
        node.engine.close().unwrap();
        drop(node);
        let mut node = Node::over(rusd_storage::engine::open(dir.path(), &options).unwrap());
        let keys: Vec<_> = node
            .machine
            .leases()
            .keys(LeaseId(1))
            .unwrap()
            .cloned()
            .collect();
        assert_eq!(keys, ["b", "c"], "{kind}");
        assert_eq!(state(&mut node), before, "{kind}");
    }
}
