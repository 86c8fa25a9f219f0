//! The core under random histories with crashes: whatever the order in which the disk and the state machine
//! answer, every member of the log is applied once and in order, and nothing acknowledged is ever lost.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "common/disk.rs"]
mod disk;

use bytes::Bytes;
use disk::SharedDisk;
use proptest::prelude::*;
use rusd_messages::mvcc::{Apply, EntryKind};
use rusd_messages::raft::{EnginePersisted, Propose};
use rusd_messages::{Index, MemberId, Pending, RaftStatus, Reply, RequestId};
use rusd_proto::etcdserverpb::InternalRaftRequest;
use rusd_proto::{ApplyReply, ApplyResult, request};
use rusd_raft::core::Effect;
use rusd_raft::log::{Append, segment};
use rusd_raft::{Core, CoreConfig};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

const ME: MemberId = MemberId(0xa1);

#[derive(Clone, Debug)]
enum Step {
    Propose(u8),
    Drive,
    Persist,
    Apply,
    EnginePersist,
    /// Everything the engine has becomes the checkpoint.
    Checkpoint,
    Tick,
    /// The process dies; the engine keeps everything through its last persist, and some of what came later.
    Crash {
        engine_keeps: u8,
    },
    /// The process dies, and the engine with it: the checkpoint takes its place.
    Damage,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u8..20).prop_map(Step::Propose),
        6 => Just(Step::Drive),
        6 => Just(Step::Persist),
        4 => Just(Step::Apply),
        2 => Just(Step::EnginePersist),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Tick),
        1 => any::<u8>().prop_map(|engine_keeps| Step::Crash { engine_keeps }),
        1 => Just(Step::Damage),
    ]
}

struct World {
    disk: SharedDisk,
    core: Core,
    in_flight: Option<Append>,
    unapplied: VecDeque<Apply>,
    /// What the state machine holds: entry `i` at `i - 1`.
    applied: Vec<Bytes>,
    engine_persisted: u64,
    /// What the checkpoint holds; in the beginning nothing, so that the whole log is needed.
    checkpoint: Vec<Bytes>,
    callers: BTreeMap<u64, Pending<ApplyResult>>,
    acknowledged: BTreeMap<u64, Bytes>,
    next_id: u64,
    now_ms: u64,
}

impl World {
    fn new() -> Self {
        let disk = SharedDisk::founded(vec![ME.0]);
        let core = Self::start(&disk, 0);
        Self {
            disk,
            core,
            in_flight: None,
            unapplied: VecDeque::new(),
            applied: Vec::new(),
            engine_persisted: 0,
            checkpoint: Vec::new(),
            callers: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            next_id: 0,
            now_ms: 0,
        }
    }

    fn start(disk: &SharedDisk, applied: u64) -> Core {
        let config = CoreConfig {
            member: ME,
            applied: Index(applied),
            heartbeat_ms: 100,
            election_ms: 1_000,
            pre_vote: true,
            incarnation: 1,
            priority_requests: false,
        };
        Core::new(config, disk.tail(), Arc::new(RaftStatus::default())).unwrap()
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Propose(count) => {
                for _ in 0..*count {
                    self.next_id += 1;
                    let id = RequestId(self.next_id);
                    let (reply, pending) = Reply::channel();
                    let data = request::encode(id, InternalRaftRequest::default());
                    self.callers.insert(id.0, pending);
                    self.core.propose(Propose { id, data, reply });
                }
            }
            Step::Drive => self.drive(),
            Step::Persist => self.persist(),
            Step::Apply => self.apply(),
            Step::EnginePersist => {
                self.engine_persisted = self.applied.len() as u64;
                self.core.engine_persisted(EnginePersisted {
                    applied: Index(self.engine_persisted),
                    checkpoint: Some(Index(self.checkpoint.len() as u64)),
                });
            }
            Step::Checkpoint => self.checkpoint = self.applied.clone(),
            Step::Tick => {
                self.now_ms += 400;
                self.core.tick(self.now_ms);
            }
            Step::Crash { engine_keeps } => {
                let unpersisted = self.applied.len() as u64 - self.engine_persisted;
                let applied = self.engine_persisted + unpersisted * u64::from(*engine_keeps) / 255;
                self.applied.truncate(usize::try_from(applied).unwrap());
                self.restart();
            }
            Step::Damage => {
                self.applied = self.checkpoint.clone();
                self.engine_persisted = self.applied.len() as u64;
                self.restart();
            }
        }
        self.notice_answers();
    }

    /// Another process goes on with what the engine holds.
    fn restart(&mut self) {
        self.in_flight = None;
        self.unapplied.clear();
        self.callers.clear();
        self.now_ms = 0;
        self.core = Self::start(&self.disk, self.applied.len() as u64);
    }

    fn drive(&mut self) {
        let mut effects = Vec::new();
        self.core.drive(&mut effects);
        self.core.check();
        for effect in effects {
            match effect {
                Effect::Append(append) => assert!(self.in_flight.replace(append).is_none()),
                Effect::Apply(apply) => self.unapplied.push_back(apply),
                Effect::Send(messages) => {
                    panic!("a sole voter has nobody to talk to: {messages:?}")
                }
                Effect::RoleChanged(_) | Effect::Stopped(_) => {}
            }
        }
    }

    fn persist(&mut self) {
        let Some(append) = self.in_flight.take() else {
            return;
        };
        let mut disk = self.disk.lock();
        let next = disk.last() + 1;
        if let Some(first) = append.entries.first() {
            assert_eq!(first.index, next, "a sole voter only appends");
        }
        if let Some(truncated) = append.truncate {
            assert!(truncated.index <= self.engine_persisted);
            assert!(truncated.index <= self.checkpoint.len() as u64);
        }
        disk.write(&append);
        assert!(
            disk.entries
                .keys()
                .copied()
                .eq(disk.truncated.index + 1..=disk.last()),
            "the log has no gap"
        );
        drop(disk);
        self.core.persisted(append.ready);
    }

    fn apply(&mut self) {
        let Some(apply) = self.unapplied.pop_front() else {
            return;
        };
        for entry in apply.entries {
            assert_eq!(
                entry.index.0,
                self.applied.len() as u64 + 1,
                "in order, once, without gaps"
            );
            let disk = self.disk.lock();
            assert!(
                disk.truncated.index < entry.index.0,
                "nothing unapplied is truncated"
            );
            assert_eq!(
                disk.entries[&entry.index.0].data, entry.data,
                "applied only once it is on disk"
            );
            drop(disk);
            self.applied.push(entry.data);
            if entry.kind == EntryKind::ConfChange {
                self.core.conf_applied(entry.index, false);
            }
            if let Some(reply) = entry.reply {
                reply.send(Ok(ApplyReply::Done));
            }
        }
        self.core.applied(Index(self.applied.len() as u64));
    }

    fn notice_answers(&mut self) {
        let acknowledged = &mut self.acknowledged;
        self.callers.retain(|id, pending| match pending.now() {
            None => true,
            Some(answer) => {
                if answer == Ok(Ok(ApplyReply::Done)) {
                    acknowledged.insert(
                        *id,
                        request::encode(RequestId(*id), InternalRaftRequest::default()),
                    );
                }
                false
            }
        });
    }

    /// Lets everything finish, then checks.
    fn finish(mut self) {
        for _ in 0..10_000 {
            self.drive();
            if self.in_flight.is_none() && self.unapplied.is_empty() {
                break;
            }
            self.persist();
            self.apply();
        }
        self.notice_answers();
        assert!(self.callers.is_empty(), "nobody is left waiting");
        for data in self.acknowledged.values() {
            let times = self
                .applied
                .iter()
                .filter(|applied| *applied == data)
                .count();
            assert_eq!(times, 1, "an acknowledged write is applied exactly once");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn nothing_acknowledged_is_lost(steps in prop::collection::vec(step(), 1..200)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
        }
        world.finish();
    }

    /// Whatever bytes a segment holds, verifying it neither panics nor accepts them as records.
    #[test]
    fn garbage_is_never_taken_for_records(bytes in prop::collection::vec(any::<u8>(), 0..2_000), newest: bool) {
        if let Ok(found) = segment::verify(&bytes, 1, newest) {
            prop_assert_eq!(found.records, 0);
        }
    }
}
