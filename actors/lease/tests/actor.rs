//! The shell, with probes on its ports and time made by hand.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use prost::Message;
use rusd_lease::{LeaseConfig, Links, Ports};
use rusd_messages::lease::{
    KeepAlive, LeaseChange, LeasesChanged, ListLeases, Remaining, TimeToLive,
};
use rusd_messages::raft::Propose;
use rusd_messages::{
    Dropped, LeaseId, LiveLeases, MemberId, Pending, Port, Probe, Proposer, Reply, Role,
    RoleChanged, Stop, Term, Tick,
};
use rusd_proto::EtcdError;
use rusd_proto::etcdserverpb::InternalRaftRequest;
use rusd_proto::request::RequestIds;
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

struct World {
    ports: Ports,
    raft: Probe<Propose>,
}

/// Runs `test` beside an actor on an arbiter of its own; all of it blocks, so the test gets a plain thread.
fn with_actor(propose_bound: usize, test: impl FnOnce(World) + Send + 'static) {
    actix::System::new().block_on(async move {
        let arbiter = actix::Arbiter::new();
        let config = LeaseConfig {
            election_timeout_ms: 1_000,
            request_timeout_ms: 7_000,
            checkpoint_interval_ms: None,
        };
        let ids = Arc::new(RequestIds::new(MemberId(1), 0));
        let live = Arc::new(LiveLeases::default());
        let (propose, raft) = Port::probe(propose_bound);
        let proposer = Proposer::new(propose, ids);
        let started = rusd_lease::start(&arbiter.handle(), config, live);
        let ports = started.connect(Links { proposer });
        let world = World { ports, raft };
        let done = std::thread::spawn(move || test(world)).join();
        arbiter.stop();
        done.expect("the test's thread ends well");
    });
}

impl World {
    fn lead(&self) {
        let role = RoleChanged {
            role: Role::Leader,
            term: Term(1),
            leader: Some(MemberId(1)),
        };
        self.ports.role.tell(role).unwrap();
    }

    fn tick(&self, now_ms: u64) {
        // Past the bound: a test wants every one of its ticks.
        self.ports.tick.deliver(Tick { now_ms }).unwrap();
    }

    fn change(&self, change: LeaseChange) {
        self.ports
            .changes
            .deliver(LeasesChanged {
                changes: vec![change],
            })
            .unwrap();
    }

    fn keep_alive(&self, id: i64) -> Pending<Result<i64, EtcdError>> {
        let (reply, pending) = Reply::channel();
        self.ports
            .keep_alive
            .tell(KeepAlive {
                id: LeaseId(id),
                reply,
            })
            .unwrap();
        pending
    }

    fn remaining(&self, id: i64) -> Result<Option<Remaining>, EtcdError> {
        let (reply, pending) = Reply::channel();
        self.ports
            .time_to_live
            .tell(TimeToLive {
                id: LeaseId(id),
                reply,
            })
            .unwrap();
        pending.wait().unwrap()
    }

    /// The lease of the next proposal, which must be a revocation.
    fn revocation(&self) -> (i64, Propose) {
        let propose = self.raft.wait(PATIENCE).expect("a revocation is proposed");
        let request = InternalRaftRequest::decode(propose.data.clone()).unwrap();
        assert_eq!(request.header.unwrap().id, propose.id.0);
        (request.lease_revoke.expect("it revokes").id, propose)
    }
}

#[test]
fn l_06_a_renewal_of_an_expired_lease_is_answered_when_the_lease_is_gone() {
    with_actor(100, |world| {
        world.lead();
        world.tick(0);
        world.change(LeaseChange::Granted {
            id: LeaseId(7),
            ttl_s: 2,
        });
        world.tick(10);
        assert_eq!(world.keep_alive(7).wait(), Ok(Ok(2)));
        assert_eq!(world.keep_alive(8).wait(), Ok(Ok(0)));
        world.tick(20);
        world.tick(2_600);
        assert_eq!(world.revocation().0, 7);
        let mut renewal = world.keep_alive(7);
        assert_eq!(
            world.remaining(7),
            Ok(Some(Remaining {
                ttl_s: 0,
                granted_ttl_s: 2
            }))
        );
        assert_eq!(renewal.now(), None, "the keys of the lease are still there");
        world.change(LeaseChange::Revoked { id: LeaseId(7) });
        assert_eq!(renewal.wait(), Ok(Ok(0)));
        assert_eq!(world.remaining(7), Ok(None));
    });
}

#[test]
fn l_05_renewals_that_wait_are_told_when_leadership_is_lost() {
    with_actor(100, |world| {
        assert_eq!(world.keep_alive(7).wait(), Ok(Err(EtcdError::NotPrimary)));
        assert_eq!(world.remaining(7), Err(EtcdError::NotPrimary));
        world.lead();
        world.tick(0);
        world.change(LeaseChange::Granted {
            id: LeaseId(7),
            ttl_s: 2,
        });
        world.tick(10);
        world.tick(2_600);
        let renewal = world.keep_alive(7);
        let role = RoleChanged {
            role: Role::Follower,
            term: Term(2),
            leader: None,
        };
        world.ports.role.tell(role).unwrap();
        assert_eq!(renewal.wait(), Ok(Err(EtcdError::NotPrimary)));
    });
}

#[test]
fn l_09_what_raft_turned_away_is_proposed_again_at_the_next_look() {
    with_actor(1, |world| {
        world.lead();
        world.tick(0);
        for id in [7, 8] {
            world.change(LeaseChange::Granted {
                id: LeaseId(id),
                ttl_s: 2,
            });
        }
        world.tick(10);
        world.tick(2_010);
        // The port had room for one only: both were tried by the time this is answered.
        assert!(world.remaining(8).unwrap().is_some());
        let (first, propose) = world.revocation();
        propose.reply.send(Err(EtcdError::TooManyRequests));
        world.tick(2_510);
        assert!(world.remaining(8).unwrap().is_some());
        let (second, propose) = world.revocation();
        drop(propose);
        assert_eq!((first, second), (7, 8));
        world.tick(3_010);
        assert_eq!(world.revocation().0, 7);
    });
}

#[test]
fn l_08_listing_and_the_end() {
    with_actor(1, |world| {
        world.lead();
        world.tick(0);
        for (id, ttl_s) in [(1, 30), (2, 10), (3, 20)] {
            world.change(LeaseChange::Granted {
                id: LeaseId(id),
                ttl_s,
            });
        }
        let (reply, listed) = Reply::channel();
        world.ports.list.tell(ListLeases { reply }).unwrap();
        assert_eq!(listed.wait(), Ok(vec![LeaseId(2), LeaseId(3), LeaseId(1)]));
        world.tick(60_000);
        world.tick(120_000);
        let waiting = world.keep_alive(1);
        let (reply, stopped) = Reply::channel();
        world.ports.stop.tell(Stop { reply }).unwrap();
        assert_eq!(stopped.wait(), Ok(()));
        assert_eq!(waiting.wait(), Err(Dropped));
    });
}
