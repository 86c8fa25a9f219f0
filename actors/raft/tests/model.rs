//! The core under random histories with crashes: whatever the order in which the disk and the state machine
//! answer, every member of the log is applied once and in order, and nothing acknowledged is ever lost.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use proptest::prelude::*;
use raft::eraftpb::Entry;
use rusd_messages::mvcc::{Apply, EntryKind};
use rusd_messages::raft::{EnginePersisted, Propose};
use rusd_messages::{Index, MemberId, Pending, RaftStatus, Reply, RequestId};
use rusd_proto::conf_change;
use rusd_proto::etcdserverpb::{InternalRaftRequest, Member};
use rusd_proto::{ApplyReply, ApplyResult, request};
use rusd_raft::core::Effect;
use rusd_raft::log::segment;
use rusd_raft::log::{Append, Conf, LogTail, StableEntries, Truncated, Vote};
use rusd_raft::{Core, CoreConfig, LogError};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

const ME: MemberId = MemberId(0xa1);

#[derive(Clone, Debug, Default)]
struct Disk {
    entries: BTreeMap<u64, Entry>,
    vote: Vote,
    conf: Conf,
    truncated: Truncated,
}

struct SharedDisk(Arc<Mutex<Disk>>);

impl StableEntries for SharedDisk {
    fn entries(&self, low: u64, high: u64, _: Option<u64>) -> Result<Vec<Entry>, LogError> {
        Ok(self
            .0
            .lock()
            .unwrap()
            .entries
            .range(low..high)
            .map(|(_, entry)| entry.clone())
            .collect())
    }

    fn term(&self, index: u64) -> Result<Option<u64>, LogError> {
        Ok(self
            .0
            .lock()
            .unwrap()
            .entries
            .get(&index)
            .map(|entry| entry.term))
    }
}

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
    disk: Arc<Mutex<Disk>>,
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
        let mut disk = Disk::default();
        let mut entry = Entry::default();
        entry.set_entry_type(raft::eraftpb::EntryType::EntryConfChange);
        entry.index = 1;
        entry.term = 1;
        entry.data = conf_change::founder(Member {
            id: ME.0,
            ..Member::default()
        });
        disk.entries.insert(1, entry);
        disk.vote = Vote {
            term: 1,
            vote: 0,
            commit: 1,
            last_conf_change: 1,
        };
        disk.conf.state.voters = vec![ME.0];
        let disk = Arc::new(Mutex::new(disk));
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

    fn start(disk: &Arc<Mutex<Disk>>, applied: u64) -> Core {
        let config = CoreConfig {
            member: ME,
            applied: Index(applied),
            heartbeat_ms: 100,
            election_ms: 1_000,
            pre_vote: true,
            incarnation: 1,
            priority_requests: false,
        };
        let state = disk.lock().unwrap().clone();
        let last = state
            .entries
            .keys()
            .next_back()
            .copied()
            .unwrap_or(state.truncated.index);
        let stable = Box::new(SharedDisk(disk.clone()));
        let tail = LogTail::new(stable, state.vote, state.conf, state.truncated, last);
        Core::new(config, tail, Arc::new(RaftStatus::default())).unwrap()
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
        let mut disk = self.disk.lock().unwrap();
        for entry in &append.entries {
            let next = disk
                .entries
                .keys()
                .next_back()
                .copied()
                .unwrap_or(disk.truncated.index)
                + 1;
            assert_eq!(entry.index, next, "a sole voter only appends");
            disk.entries.insert(entry.index, entry.clone());
        }
        disk.vote = append.vote.unwrap_or(disk.vote);
        if let Some(conf) = append.conf {
            disk.conf = *conf;
        }
        if let Some(truncated) = append.truncate {
            assert!(truncated.index <= self.engine_persisted);
            assert!(truncated.index <= self.checkpoint.len() as u64);
            disk.truncated = truncated;
            disk.entries = disk.entries.split_off(&(truncated.index + 1));
        }
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
            let disk = self.disk.lock().unwrap();
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
