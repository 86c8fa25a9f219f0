//! The state machine's shell on a real arbiter, with probes on all its ports: whom it tells what, and when.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use actix::System;
use prost::Message;
use rusd_messages::compactor::{CompactStepped, CompactionPending, RevisionAdvanced};
use rusd_messages::lease::{LeaseChange, LeasesChanged};
use rusd_messages::members::MembersChanged;
use rusd_messages::mvcc::{Apply, CommittedEntry, EntryKind};
use rusd_messages::raft::{Applied, ConfApplied, EnginePersisted};
use rusd_messages::watch::{Committed, Compacted, Lagged, WatchDemand};
use rusd_messages::{Heartbeat, Index, LeaseId, Pending, Port, Probe, Reply, Stop, Term, Tick};
use rusd_mvcc::core::batching::BATCH_INTERVAL_MS;
use rusd_mvcc::{EngineSetup, Links, MvccConfig, PersistPolicy, Ports, Progress, Publications};
use rusd_proto::etcdserverpb::{self as pb, InternalRaftRequest};
use rusd_proto::{ApplyReply, ApplyResult};
use rusd_state::StateMachine;
use rusd_storage::engine::{EngineDir, EngineKind, EngineOptions};
use rusd_storage::{MvccOptions, MvccStore, ReadAt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Long enough for a busy machine; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(30);
const HUB_QUEUE: usize = 2;
const BOUND: usize = 64;

/// The actor, and what it says to whom.
struct World {
    ports: Ports,
    publications: Publications,
    demand: Arc<WatchDemand>,
    applied: Probe<Applied>,
    committed: Probe<Committed>,
    lagged: Probe<Lagged>,
    compacted: Probe<Compacted>,
    leases: Probe<LeasesChanged>,
    revision: Probe<RevisionAdvanced>,
    pending: Probe<CompactionPending>,
    members: Probe<MembersChanged>,
    _conf_applied: Probe<ConfApplied>,
    persisted: Probe<EnginePersisted>,
    _stepped: Probe<CompactStepped>,
    last_index: u64,
}

impl World {
    fn start(system: &System, base: &Path) -> Self {
        let options = EngineOptions {
            kind: EngineKind::Redb,
            cache_bytes: 16 << 20,
        };
        let engines = EngineDir::open(base, &options).unwrap();
        let store = MvccStore::open(engines.engine(), MvccOptions::default()).unwrap();
        let machine = StateMachine::open(store).unwrap();
        let config = MvccConfig {
            warning_apply: Duration::ZERO,
        };
        let setup = EngineSetup {
            engines,
            progress: Progress::default(),
            persist: PersistPolicy {
                bytes: 1,
                interval: PATIENCE,
            },
            checkpoints: None,
        };
        let started = rusd_mvcc::start(system.arbiter(), machine, setup, config).unwrap();
        let publications = started.publications.clone();
        let demand = Arc::<WatchDemand>::default();
        let (applied, applied_probe) = Port::probe(BOUND);
        let (conf_applied, conf_applied_probe) = Port::probe(BOUND);
        let (engine_persisted, persisted_probe) = Port::probe(BOUND);
        let (committed, committed_probe) = Port::probe(HUB_QUEUE);
        let (lagged, lagged_probe) = Port::probe(BOUND);
        let (compacted, compacted_probe) = Port::probe(BOUND);
        let (leases, leases_probe) = Port::probe(BOUND);
        let (revision, revision_probe) = Port::probe(1);
        let (compaction, pending_probe) = Port::probe(BOUND);
        let (stepped, stepped_probe) = Port::probe(BOUND);
        let (members, members_probe) = Port::probe(BOUND);
        let links = Links {
            applied,
            conf_applied,
            engine_persisted,
            committed,
            demand: demand.clone(),
            lagged,
            compacted,
            leases,
            revision,
            compaction,
            stepped,
            members,
        };
        let ports = started.connect(links);
        let world = Self {
            ports,
            publications,
            demand,
            applied: applied_probe,
            committed: committed_probe,
            lagged: lagged_probe,
            compacted: compacted_probe,
            leases: leases_probe,
            revision: revision_probe,
            pending: pending_probe,
            members: members_probe,
            _conf_applied: conf_applied_probe,
            persisted: persisted_probe,
            _stepped: stepped_probe,
            last_index: 0,
        };
        // What it found on disk, first.
        assert_eq!(world.lagged.wait(PATIENCE), Some(Lagged { through: 1 }));
        world.members.wait(PATIENCE).expect("it tells the members");
        world.revision.wait(PATIENCE).expect("and the revision");
        assert_eq!(
            world.compacted.wait(PATIENCE),
            Some(Compacted { revision: -1 })
        );
        world
    }

    /// Hands over one batch, an entry for each request; the answer to each.
    fn apply(&mut self, requests: Vec<InternalRaftRequest>) -> Vec<Pending<ApplyResult>> {
        let mut entries = Vec::new();
        let mut answers = Vec::new();
        for request in requests {
            self.last_index += 1;
            let (reply, answer) = Reply::channel();
            answers.push(answer);
            entries.push(CommittedEntry {
                index: Index(self.last_index),
                term: Term(1),
                kind: EntryKind::Request,
                data: request.encode_to_vec().into(),
                reply: Some(reply),
            });
        }
        self.ports.apply.tell(Apply { entries }).unwrap();
        answers
    }

    fn put(&mut self, key: &str) -> i64 {
        let mut answers = self.apply(vec![put(key)]);
        match answers.remove(0).wait().unwrap() {
            Ok(ApplyReply::Put(response)) => response.header.unwrap().revision,
            other => panic!("{other:?}"),
        }
    }

    fn tick(&self) {
        self.tick_at(0);
    }

    fn tick_at(&self, now_ms: u64) {
        self.ports.tick.deliver(Tick { now_ms }).unwrap();
    }

    /// The revisions in what the hub was told.
    fn told(&self) -> Vec<i64> {
        let batches = self.committed.all();
        let revisions = batches.iter().flat_map(|batch| &batch.revisions);
        revisions.map(|revision| revision.revision).collect()
    }
}

fn with_actor(body: impl FnOnce(&mut World) + Send + 'static) {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path().to_owned();
    let runner = System::new();
    let system = System::current();
    let test = std::thread::spawn(move || {
        let mut world = World::start(&system, &base);
        body(&mut world);
        let (reply, stopped) = Reply::channel();
        world.ports.stop.tell(Stop { reply }).unwrap();
        stopped.wait().unwrap();
        system.stop();
    });
    runner.run().unwrap();
    test.join().unwrap();
}

fn put(key: &str) -> InternalRaftRequest {
    InternalRaftRequest {
        put: Some(pb::PutRequest {
            key: key.to_owned().into(),
            value: "v".into(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn grant(id: i64) -> InternalRaftRequest {
    InternalRaftRequest {
        lease_grant: Some(pb::LeaseGrantRequest { id, ttl: 60 }),
        ..Default::default()
    }
}

#[test]
fn a_batch_is_published_and_credited_before_it_is_answered() {
    with_actor(|world| {
        let answers = world.apply(vec![put("a"), put("b"), grant(7)]);
        for answer in answers {
            answer.wait().unwrap().unwrap();
        }
        // All of this was there before the first answer.
        let credit = world.applied.next().unwrap();
        assert_eq!(credit.through, Index(3));
        assert_eq!(*world.publications.applied.borrow(), Index(3));
        assert_eq!(world.publications.views.peek().revision().0, 3);
        let granted = LeaseChange::Granted {
            id: LeaseId(7),
            ttl_s: 60,
        };
        assert_eq!(world.leases.next().unwrap().changes, [granted]);
    });
}

#[test]
fn a_hub_without_streams_is_told_nothing_and_finds_the_revision_when_one_opens() {
    with_actor(|world| {
        assert_eq!(world.put("a"), 2);
        assert_eq!(world.put("b"), 3);
        assert!(world.told().is_empty());
        assert_eq!(world.demand.first_stream(), 3);
        assert_eq!(world.put("c"), 4);
        assert_eq!(world.told(), [4]);
        world.demand.set(0, 0);
        assert_eq!(world.put("d"), 5);
        assert!(world.told().is_empty());
        assert_eq!(world.demand.first_stream(), 5);
        assert_eq!(world.lagged.all(), []);
    });
}

#[test]
fn w_18_a_hub_that_is_behind_is_told_how_far_and_never_waited_for() {
    with_actor(|world| {
        world.demand.first_stream();
        for n in 2..=6 {
            assert_eq!(world.put("k"), n);
        }
        // Its queue holds two; from then on it is told the newest only, and would read the rest from history.
        assert_eq!(
            world.lagged.all(),
            [4, 5, 6].map(|through| Lagged { through })
        );
        assert_eq!(world.told(), [2, 3]);
        assert_eq!(world.put("k"), 7);
        assert_eq!(world.told(), [7]);
    });
}

#[test]
fn w_10_previous_records_are_looked_up_only_when_somebody_wants_them() {
    with_actor(|world| {
        world.put("k");
        world.demand.first_stream();
        world.put("k");
        world.demand.set(1, 1);
        world.put("k");
        let batches = world.committed.all();
        let revisions: Vec<_> = batches.iter().flat_map(|batch| &batch.revisions).collect();
        assert!(!revisions[0].with_previous && revisions[1].with_previous);
        assert_eq!(revisions[0].events[0].encoded_with_previous, None);
        let event = revisions[1].events[0].encoded_with_previous.clone();
        let event = rusd_proto::mvccpb::Event::decode(event.unwrap()).unwrap();
        let previous = rusd_proto::mvccpb::KeyValue::decode(event.prev_kv).unwrap();
        assert_eq!(previous.mod_revision, 3);
    });
}

#[test]
fn the_compactor_learns_the_revision_by_the_tick_and_of_a_compaction_at_once() {
    with_actor(|world| {
        world.put("k");
        world.put("k");
        assert_eq!(world.revision.next(), None);
        world.tick();
        assert_eq!(
            world.revision.wait(PATIENCE),
            Some(RevisionAdvanced { revision: 3 })
        );
        let compact = InternalRaftRequest {
            compaction: Some(pb::CompactionRequest {
                revision: 3,
                physical: false,
            }),
            ..Default::default()
        };
        world
            .apply(vec![compact])
            .remove(0)
            .wait()
            .unwrap()
            .unwrap();
        assert_eq!(world.compacted.all(), [Compacted { revision: 3 }]);
        assert_eq!(world.pending.all(), [CompactionPending { revision: 3 }]);
        // Nothing is told twice.
        world.tick();
        world.put("k");
        assert_eq!(world.revision.next(), None);
    });
}

#[test]
fn raft_hears_what_the_engine_has_made_durable() {
    with_actor(|world| {
        world.put("k");
        world.put("k");
        world.tick_at(0);
        world.tick_at(BATCH_INTERVAL_MS);
        let said = world.persisted.wait(PATIENCE).expect("it is persisted");
        assert_eq!((said.applied, said.checkpoint), (Index(2), None));
    });
}

#[test]
fn a_heartbeat_is_answered_between_two_batches() {
    with_actor(|world| {
        let answers = world.apply(vec![put("a")]);
        let (reply, alive) = Reply::channel();
        world.ports.heartbeat.tell(Heartbeat { reply }).unwrap();
        alive.wait().unwrap();
        for mut answer in answers {
            assert!(answer.now().is_some(), "what came before is done");
        }
    });
}
