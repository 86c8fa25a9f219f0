//! Random inputs for the state machine's core, with queues that are full now and then, an engine that is slow and a
//! member that restarts: whatever the order, nobody misses anything and nobody hears of it too early.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "common/entries.rs"]
mod entries;

use entries::entry;
use proptest::prelude::*;
use rusd_messages::mvcc::CommittedEntry;
use rusd_messages::watch::WatchDemand;
use rusd_messages::{Index, Pending, Reply, Term};
use rusd_mvcc::core::batching::BATCHES_OUT_MAX;
use rusd_mvcc::{Core, Effect, Write};
use rusd_proto::ApplyResult;
use rusd_state::StateMachine;
use rusd_storage::engine::{Engine, Memory};
use rusd_storage::{At, MvccOptions, MvccStore, ReadAt};
use std::collections::VecDeque;
use std::sync::Arc;

#[derive(Clone, Debug)]
enum Input {
    /// A batch of so many entries, chosen by numbers.
    Batch(Vec<u8>),
    Tick(u64),
    Wrote,
    Step,
    /// Whether the hub's queues refuse.
    Full {
        committed: bool,
        lagged: bool,
    },
    Restart,
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        6 => prop::collection::vec(any::<u8>(), 1..6).prop_map(Input::Batch),
        3 => (1..200_u64).prop_map(Input::Tick),
        4 => Just(Input::Wrote),
        2 => Just(Input::Step),
        2 => (any::<bool>(), any::<bool>())
            .prop_map(|(committed, lagged)| Input::Full { committed, lagged }),
        1 => Just(Input::Restart),
    ]
}

fn words(choice: u8, revision: i64) -> (&'static str, String) {
    let key = (choice % 4).to_string();
    match choice % 16 {
        0..=6 => ("put", key),
        7 => ("big", "70000".to_owned()),
        8 => ("del", key),
        9 => ("grant", key),
        10 => ("attach", key),
        11 => ("revoke", key),
        12 => ("compact", revision.to_string()),
        13 => ("physical", revision.to_string()),
        14 => ("join", (choice / 16 + 1).to_string()),
        _ => ("empty", String::new()),
    }
}

struct World {
    engine: Arc<Memory>,
    demand: Arc<WatchDemand>,
    core: Core,
    /// Every entry so far, for what comes after a restart.
    log: Vec<(&'static str, String)>,
    to_write: VecDeque<Write>,
    now_ms: u64,
    committed_full: bool,
    lagged_full: bool,
    /// The hub has heard of everything through this revision, or that it is to read it.
    hub_through: i64,
    credited_through: u64,
    callers: Vec<Pending<ApplyResult>>,
}

fn core_over(engine: &Arc<Memory>, demand: &Arc<WatchDemand>) -> Core {
    let store = MvccStore::open(engine.clone(), MvccOptions::default()).unwrap();
    let machine = StateMachine::open(store).unwrap();
    Core::new(machine, Arc::default(), demand.clone())
}

impl World {
    fn start() -> Self {
        let engine = Arc::new(Memory::new());
        let demand = Arc::<WatchDemand>::default();
        demand.set(1, 1);
        let mut world = Self {
            core: core_over(&engine, &demand),
            engine,
            demand,
            log: Vec::new(),
            to_write: VecDeque::new(),
            now_ms: 0,
            committed_full: false,
            lagged_full: false,
            hub_through: 0,
            credited_through: 0,
            callers: Vec::new(),
        };
        world.input(|core, effects| core.restored(effects));
        world
    }

    fn revision(&self) -> i64 {
        self.core.machine().views().peek().revision().0
    }

    fn applied(&self) -> u64 {
        self.core.machine().applied().0.0
    }

    /// Hands over the log from an index on, as one batch.
    fn apply(&mut self, from: usize) {
        let mut entries = Vec::new();
        for (index, (name, argument)) in self.log.iter().enumerate().skip(from) {
            let (kind, data) = entry(name, argument);
            let (reply, caller) = Reply::channel();
            self.callers.push(caller);
            entries.push(CommittedEntry {
                index: Index(index as u64 + 1),
                term: Term(1),
                kind,
                data,
                reply: Some(reply),
            });
        }
        self.input(|core, effects| core.apply(entries, |_, _| {}, effects));
    }

    fn input(&mut self, input: impl FnOnce(&mut Core, &mut Vec<Effect>)) {
        let mut effects = Vec::new();
        input(&mut self.core, &mut effects);
        let (mut published, mut replied) = (false, false);
        for effect in effects {
            match &effect {
                Effect::Published { .. } => published = true,
                Effect::Replies(_) => {
                    assert!(published, "answered before it was visible");
                    replied = true;
                }
                Effect::Write(_) | Effect::Stepped(_) => {}
                _ => assert!(!replied, "a caller knew of it first"),
            }
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Applied(credits) => {
                let through = credits.through.0;
                assert!(through > self.credited_through || through == self.applied());
                assert!(through <= self.applied());
                self.credited_through = through;
            }
            Effect::Committed(committed) if self.committed_full => {
                let instead = self.core.committed_refused(&committed);
                self.perform(instead.expect("it is told something instead"));
            }
            Effect::Committed(committed) => {
                for revision in &committed.revisions {
                    assert_eq!(revision.revision, self.hub_through + 1, "a gap");
                    self.hub_through = revision.revision;
                }
            }
            Effect::Lagged(lagged) if self.lagged_full => self.core.lagged_refused(lagged),
            Effect::Lagged(lagged) => {
                assert!(lagged.through >= self.hub_through);
                self.hub_through = lagged.through;
            }
            Effect::Write(write) => {
                self.to_write.push_back(write);
                assert!(self.to_write.len() <= BATCHES_OUT_MAX);
            }
            Effect::Hash(hash) => drop(hash.run().unwrap()),
            Effect::Replies(replies) => {
                for (reply, result) in replies {
                    reply.send(result);
                }
            }
            _ => {}
        }
    }

    fn wrote(&mut self) {
        if let Some(write) = self.to_write.pop_front() {
            self.engine.write(&write.batch.batch).unwrap();
            self.input(|core, effects| core.engine_wrote(write.batch.seq, effects));
        }
    }

    fn restart(&mut self) {
        self.to_write.clear();
        self.core = core_over(&self.engine, &self.demand);
        // The hub starts with it, and reads everything before from history.
        self.hub_through = 0;
        self.credited_through = 0;
        self.input(|core, effects| core.restored(effects));
        if !self.log.is_empty() {
            self.apply(0);
        }
        // Those of before are gone.
        self.callers.clear();
    }

    fn run(&mut self, input: Input) {
        match input {
            Input::Batch(choices) => {
                let (from, revision) = (self.log.len(), self.revision());
                self.log
                    .extend(choices.iter().map(|choice| words(*choice, revision)));
                self.apply(from);
            }
            Input::Tick(ms) => {
                self.now_ms += ms;
                let now_ms = self.now_ms;
                self.input(|core, effects| core.tick(now_ms, effects));
            }
            Input::Wrote => self.wrote(),
            Input::Step => self.input(|core, effects| core.compact_step(3, effects)),
            Input::Full { committed, lagged } => {
                (self.committed_full, self.lagged_full) = (committed, lagged);
            }
            Input::Restart => {
                let revision = self.revision();
                self.restart();
                assert_eq!(self.revision(), revision, "the log makes the same of it");
            }
        }
    }

    /// Lets everything come to rest.
    fn settle(&mut self) {
        self.run(Input::Full {
            committed: false,
            lagged: false,
        });
        while self.core.machine().compaction_pending().is_some() {
            self.run(Input::Step);
            self.wrote();
        }
        for _ in 0..4 {
            self.run(Input::Tick(200));
            self.wrote();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nobody_misses_anything_and_nobody_hears_of_it_too_early(
        inputs in prop::collection::vec(input(), 1..60)
    ) {
        let mut world = World::start();
        for input in inputs {
            world.run(input);
        }
        world.settle();
        prop_assert_eq!(world.hub_through, world.revision());
        prop_assert_eq!(world.credited_through, world.applied());
        prop_assert!(world.to_write.is_empty());
        world.input(|core, effects| core.stop(effects));
        world.wrote();
        for caller in &mut world.callers {
            prop_assert!(caller.now().is_some_and(|answer| answer.is_ok()), "a caller waits");
        }
        // The engine has everything in the end, even of entries that change nothing: another member over it knows the
        // same.
        let hash = |core: &Core| core.machine().views().hash_kv(At::Newest).unwrap();
        let again = core_over(&world.engine, &world.demand);
        prop_assert_eq!(again.machine().applied().0.0, world.applied());
        prop_assert_eq!(hash(&again), hash(&world.core));
    }
}
