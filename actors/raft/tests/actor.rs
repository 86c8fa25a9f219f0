//! The shell on a real log, with probes for its neighbours.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use actix::{Arbiter, System};
use bytes::Bytes;
use common::*;
use rusd_messages::mvcc::{Apply, EntryKind};
use rusd_messages::raft::{
    Applied, ConfApplied, EnginePersisted, Propose, ReadIndex, TransferLeader,
};
use rusd_messages::{Heartbeat, Stop, Tick};
use rusd_messages::{
    Index, MemberId, Pending, Port, Probe, RaftStatus, Reply, RequestId, Role, RoleChanged,
};
use rusd_proto::etcdserverpb::{InternalRaftRequest, PutRequest};
use rusd_proto::{ApplyReply, ApplyResult, EtcdError, request};
use rusd_raft::{Core, CoreConfig, Links, Log, LogConfig, Ports, RaftConfig, start};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(30);

/// A server's worth of neighbours around one Raft actor.
struct Node {
    ports: Ports,
    apply: Probe<Apply>,
    roles: Probe<RoleChanged>,
    status: Arc<RaftStatus>,
    arbiter: Arbiter,
    applied: u64,
}

impl Node {
    /// Must be called with a system running on another thread.
    fn start(dir: &Path, applied: u64) -> Self {
        let mut log = Log::open(LogConfig::new(dir)).unwrap();
        if log.identity().is_none() {
            log.bootstrap(&bootstrap()).unwrap();
        }
        let status = Arc::new(RaftStatus::default());
        let config = CoreConfig {
            member: MEMBER,
            applied: Index(applied),
            heartbeat_ms: 100,
            election_ms: 1_000,
            pre_vote: true,
            incarnation: 7,
            priority_requests: false,
        };
        let writer = log.writer();
        let core = Core::new(config, log.into_tail(), status.clone()).unwrap();
        let arbiter = Arbiter::new();
        let (apply, apply_probe) = Port::probe(1_000);
        let (role_changed, roles) = Port::probe(1_000);
        let started = start(&arbiter.handle(), core, writer, RaftConfig::default()).unwrap();
        let ports = started.connect(Links {
            apply,
            role_changed: vec![role_changed],
        });
        Self {
            ports,
            apply: apply_probe,
            roles,
            status,
            arbiter,
            applied,
        }
    }

    /// Applies the next batch as the state machine would.
    fn apply(&mut self) {
        let apply = self.apply.wait(LONG).expect("a batch");
        self.take(apply);
    }

    fn take(&mut self, apply: Apply) {
        for entry in apply.entries {
            assert_eq!(
                entry.index.0,
                self.applied + 1,
                "entries come in order, without gaps"
            );
            self.applied = entry.index.0;
            if entry.kind == EntryKind::ConfChange {
                let confirmed = ConfApplied {
                    index: entry.index,
                    rejected: false,
                };
                self.ports.conf_applied.tell(confirmed).unwrap();
            }
            if let Some(reply) = entry.reply {
                reply.send(Ok(ApplyReply::Done));
            }
        }
        let through = Index(self.applied);
        self.ports.applied.tell(Applied { through }).unwrap();
    }

    fn wait_for_leadership(&mut self) {
        let leads =
            |changed: &RoleChanged| changed.role == Role::Leader && changed.leader == Some(MEMBER);
        while !self.roles.all().iter().any(leads) {
            if let Some(apply) = self.apply.wait(Duration::from_millis(5)) {
                self.take(apply);
            }
        }
        assert!(self.status.reads_are_local());
    }

    fn propose(&self, id: u64) -> Pending<ApplyResult> {
        let put = PutRequest {
            key: Bytes::from_static(b"k"),
            ..Default::default()
        };
        let data = request::encode(
            RequestId(id),
            InternalRaftRequest {
                put: Some(put),
                ..Default::default()
            },
        );
        let (reply, pending) = Reply::channel();
        self.ports
            .propose
            .tell(Propose {
                id: RequestId(id),
                data,
                reply,
            })
            .unwrap();
        pending
    }

    fn stop(self) {
        let (reply, pending) = Reply::channel();
        self.ports.stop.tell(Stop { reply }).unwrap();
        pending.wait().unwrap();
        self.arbiter.stop();
        self.arbiter.join().unwrap();
    }
}

/// Runs `test` beside a system.
fn with_system(test: impl FnOnce()) {
    let (sender, receiver) = std::sync::mpsc::channel();
    let system = std::thread::spawn(move || {
        let runner = System::new();
        sender.send(System::current()).unwrap();
        runner.run().unwrap();
    });
    let handle = receiver.recv().unwrap();
    System::set_current(handle.clone());
    test();
    handle.stop();
    system.join().unwrap();
}

#[test]
fn a_server_starts_writes_reads_and_stops() {
    let dir = tempfile::tempdir().unwrap();
    with_system(|| {
        let mut node = Node::start(dir.path(), 0);
        node.wait_for_leadership();
        assert_eq!(node.status.term().0, 2);
        let (reply, alive) = Reply::channel();
        node.ports.heartbeat.tell(Heartbeat { reply }).unwrap();
        alive.wait().unwrap();

        let one = node.propose(1);
        node.apply();
        assert_eq!(one.wait().unwrap(), Ok(ApplyReply::Done));

        let many: Vec<_> = (2..500).map(|id| node.propose(id)).collect();
        while node.applied < 501 {
            node.apply();
        }
        for pending in many {
            assert_eq!(pending.wait().unwrap(), Ok(ApplyReply::Done));
        }

        let (reply, pending) = Reply::channel();
        node.ports.read_index.tell(ReadIndex { reply }).unwrap();
        assert_eq!(pending.wait().unwrap(), Ok(Index(501)));

        let (reply, pending) = Reply::channel();
        node.ports
            .transfer_leader
            .tell(TransferLeader {
                target: MemberId(9),
                reply,
            })
            .unwrap();
        assert_eq!(pending.wait().unwrap(), Err(EtcdError::BadLeaderTransferee));

        node.ports
            .engine_persisted
            .tell(EnginePersisted {
                applied: Index(400),
                checkpoint: None,
            })
            .unwrap();
        node.ports.tick.tell(Tick { now_ms: 5_000 }).unwrap();
        let last = node.propose(1_000);
        node.apply();
        assert_eq!(last.wait().unwrap(), Ok(ApplyReply::Done));
        node.stop();

        // The files are free, everything acknowledged is there, and exactly one election follows (PR-06).
        let tail = Log::open(LogConfig::new(dir.path())).unwrap().into_tail();
        assert_eq!(
            (tail.truncated().index, tail.last(), tail.vote().commit),
            (400, 502, 502)
        );
        drop(tail);
        let mut node = Node::start(dir.path(), 502);
        node.wait_for_leadership();
        assert_eq!(node.status.term().0, 3);
        node.stop();
    });
}

#[test]
fn a_stopping_server_fails_what_waits_and_takes_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    with_system(|| {
        let mut node = Node::start(dir.path(), 0);
        node.wait_for_leadership();
        let (reply, stopped) = Reply::channel();
        let before = node.propose(1);
        node.ports.stop.tell(Stop { reply }).unwrap();
        stopped.wait().unwrap();
        // Handed to the state machine before the stop, or failed by it: never left hanging.
        let answer = before.wait_or_applied(&node);
        assert!(answer, "the caller was told");
        let (reply, after) = Reply::channel();
        match node.ports.propose.tell(Propose {
            id: RequestId(2),
            data: Bytes::new(),
            reply,
        }) {
            Ok(()) => assert!(after.wait().is_err()),
            Err(refused) => drop(refused),
        }
        node.arbiter.stop();
        node.arbiter.join().unwrap();
    });
}

trait WaitOrApplied {
    fn wait_or_applied(self, node: &Node) -> bool;
}

impl WaitOrApplied for Pending<ApplyResult> {
    /// Whether the proposal was failed with `Stopped` or is in a batch for the state machine.
    fn wait_or_applied(mut self, node: &Node) -> bool {
        if let Some(answer) = self.now() {
            return answer == Ok(Err(EtcdError::Stopped));
        }
        node.apply
            .all()
            .iter()
            .any(|apply| apply.entries.iter().any(|entry| entry.reply.is_some()))
    }
}
