//! The shell, with probes on its ports and time made by hand.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use prost::Message;
use rusd_compactor::{AutoMode, CompactorConfig, Links, Ports};
use rusd_messages::compactor::{CompactStepped, CompactionPending, RevisionAdvanced};
use rusd_messages::mvcc::CompactStep;
use rusd_messages::raft::Propose;
use rusd_messages::{MemberId, Port, Probe, Reply, Role, RoleChanged, Stop, Term, Tick};
use rusd_proto::etcdserverpb::{CompactionRequest, InternalRaftRequest};
use rusd_proto::request::RequestIds;
use rusd_proto::{ApplyReply, EtcdError};
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

struct World {
    ports: Ports,
    raft: Probe<Propose>,
    mvcc: Probe<CompactStep>,
}

/// Runs `test` beside an actor on an arbiter of its own; all of it blocks, so the test gets a plain thread.
fn with_actor(auto: AutoMode, test: impl FnOnce(World) + Send + 'static) {
    actix::System::new().block_on(async move {
        let arbiter = actix::Arbiter::new();
        let config = CompactorConfig {
            auto,
            batch_records: 1_000,
            pause_ms: 10,
        };
        let ids = Arc::new(RequestIds::new(MemberId(1), 0));
        let started = rusd_compactor::start(&arbiter.handle(), config, ids);
        let (propose, raft) = Port::probe(10);
        let (compact_step, mvcc) = Port::probe(10);
        let links = Links {
            propose,
            compact_step,
        };
        let ports = started.connect(links);
        let world = World { ports, raft, mvcc };
        let done = std::thread::spawn(move || test(world)).join();
        arbiter.stop();
        done.expect("the test's thread ends well");
    });
}

impl World {
    fn tick(&self, now_ms: u64) {
        // Past the bound: a test wants every one of its ticks.
        self.ports.tick.deliver(Tick { now_ms }).unwrap();
    }

    fn revision(&self, revision: i64) {
        let advanced = RevisionAdvanced { revision };
        self.ports.revision.deliver(advanced).unwrap();
    }

    fn proposed(&self) -> (i64, Propose) {
        let propose = self.raft.wait(PATIENCE).expect("a compaction is proposed");
        let request = InternalRaftRequest::decode(propose.data.clone()).unwrap();
        let CompactionRequest { revision, physical } = request.compaction.expect("it compacts");
        assert!(!physical);
        (revision, propose)
    }

    /// Returns when everything told before has been worked on, and the actor has ended.
    fn stop(&self) {
        let (reply, stopped) = Reply::channel();
        self.ports.stop.tell(Stop { reply }).unwrap();
        stopped.wait().unwrap();
    }
}

#[test]
fn o_05_the_leader_proposes_and_tries_again_what_failed() {
    with_actor(AutoMode::Revisions { retained: 10 }, |world| {
        let role = RoleChanged {
            role: Role::Leader,
            term: Term(1),
            leader: Some(MemberId(1)),
        };
        world.ports.role.tell(role).unwrap();
        world.revision(100);
        world.tick(0);
        world.tick(300_000);
        let (revision, propose) = world.proposed();
        assert_eq!(revision, 90);
        propose.reply.send(Err(EtcdError::Timeout));
        world.tick(600_000);
        let (revision, propose) = world.proposed();
        assert_eq!(revision, 90);
        // Somebody else was faster: that will do.
        propose.reply.send(Err(EtcdError::Compacted));
        world.tick(900_000);
        world.revision(110);
        world.tick(1_200_000);
        let (revision, propose) = world.proposed();
        assert_eq!(revision, 100);
        propose
            .reply
            .send(Ok(ApplyReply::Compact(Default::default())));
        world.tick(1_500_000);
        world.stop();
        assert!(world.raft.next().is_none());
    });
}

#[test]
fn kv_c03_removal_goes_step_by_step_on_any_member() {
    with_actor(AutoMode::Off, |world| {
        let step = || world.mvcc.wait(PATIENCE).map(|step| step.max_records);
        world.tick(100);
        let pending = CompactionPending { revision: 50 };
        world.ports.pending.tell(pending).unwrap();
        assert_eq!(step(), Some(1_000));
        let stepped = |removed, finished| {
            world
                .ports
                .stepped
                .deliver(CompactStepped {
                    removed,
                    finished,
                    unwritten_bytes: 0,
                    next_removes: true,
                })
                .unwrap();
        };
        stepped(1_000, false);
        world.tick(105);
        world.tick(110);
        assert_eq!(step(), Some(1_000));
        stepped(3, true);
        world.tick(120);
        world.stop();
        assert!(world.mvcc.next().is_none(), "nothing is left to remove");
    });
}
