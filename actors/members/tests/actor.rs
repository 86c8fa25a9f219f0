//! The shell, with probes on its ports and time made by hand.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use prost::Message;
use rusd_members::version::ClusterVersion;
use rusd_members::{Links, MembersConfig, Ports};
use rusd_messages::members::{MembersChanged, RaiseAlarm};
use rusd_messages::raft::Propose;
use rusd_messages::{
    MemberId, Pending, Port, Probe, Proposer, Published, Reply, Role, RoleChanged, Stop, Term, Tick,
};
use rusd_proto::etcdserverpb::{AlarmMember, AlarmRequest, AlarmType, InternalRaftRequest, Member};
use rusd_proto::request::RequestIds;
use rusd_proto::{ApplyReply, EtcdError};
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

struct World {
    ports: Ports,
    raft: Probe<Propose>,
    joined: Pending<()>,
}

/// Runs `test` beside an actor on an arbiter of its own; all of it blocks, so the test gets a plain thread.
fn with_actor(test: impl FnOnce(World) + Send + 'static) {
    actix::System::new().block_on(async move {
        let arbiter = actix::Arbiter::new();
        let config = MembersConfig {
            member: MemberId(0xa),
            name: "n1".to_owned(),
            client_urls: vec!["http://c:2379".to_owned()],
            cluster_version: ClusterVersion { major: 3, minor: 7 },
        };
        let ids = Arc::new(RequestIds::new(MemberId(0xa), 0));
        let (reply, joined) = Reply::channel();
        let (propose, raft) = Port::probe(10);
        let proposer = Proposer::new(propose, ids);
        let ports =
            rusd_members::start(&arbiter.handle(), config, reply).connect(Links { proposer });
        let world = World {
            ports,
            raft,
            joined,
        };
        let done = std::thread::spawn(move || test(world)).join();
        arbiter.stop();
        done.expect("the test's thread ends well");
    });
}

impl World {
    fn changed(&self, name: &str, version: Option<&str>, alarms: &[AlarmType]) {
        let me = Member {
            id: 0xa,
            name: name.to_owned(),
            client_ur_ls: vec!["http://c:2379".to_owned()],
            ..Member::default()
        };
        let alarm = |kind: &AlarmType| AlarmMember {
            member_id: 0xa,
            alarm: *kind as i32,
        };
        let published = Published {
            members: vec![me],
            alarms: alarms.iter().map(alarm).collect(),
            cluster_version: version.map(str::to_owned),
        };
        let published = Arc::new(published);
        self.ports
            .changed
            .deliver(MembersChanged { published })
            .unwrap();
    }

    fn lead(&self) {
        let role = RoleChanged {
            role: Role::Leader,
            term: Term(1),
            leader: Some(MemberId(0xa)),
        };
        self.ports.role.tell(role).unwrap();
    }

    fn raise(&self, alarm: AlarmType) -> Pending<()> {
        let (reply, raised) = Reply::channel();
        let message = RaiseAlarm { alarm, reply };
        self.ports.raise_alarm.tell(message).unwrap();
        raised
    }

    fn tick(&self, now_ms: u64) {
        // Past the bound: a test wants every one of its ticks.
        self.ports.tick.deliver(Tick { now_ms }).unwrap();
    }

    fn proposed(&self) -> (InternalRaftRequest, Propose) {
        let propose = self.raft.wait(PATIENCE).expect("something is proposed");
        (
            InternalRaftRequest::decode(propose.data.clone()).unwrap(),
            propose,
        )
    }

    /// Returns when everything told before has been worked on, and the actor has ended.
    fn stop(&self) {
        let (reply, stopped) = Reply::channel();
        self.ports.stop.tell(Stop { reply }).unwrap();
        stopped.wait().unwrap();
    }
}

#[test]
fn o_13_o_24_a_member_joins_once_it_is_published_and_the_cluster_has_a_version() {
    with_actor(|mut world| {
        world.changed("", None, &[]);
        world.lead();
        let (request, publish) = world.proposed();
        let attributes = request.cluster_member_attr_set.expect("it publishes");
        assert_eq!(attributes.member_id, 0xa);
        let attributes = attributes.member_attributes.unwrap();
        assert_eq!(
            (attributes.name.as_str(), attributes.client_urls.as_slice()),
            ("n1", &["http://c:2379".to_owned()][..])
        );
        let (request, version) = world.proposed();
        assert_eq!(
            request
                .cluster_version_set
                .expect("it decides the version")
                .ver,
            "3.7.0"
        );
        assert_eq!(world.joined.now(), None);
        publish.reply.send(Ok(ApplyReply::Done));
        version.reply.send(Ok(ApplyReply::Done));
        // No tick is needed: the change itself shows it.
        world.changed("n1", Some("3.7.0"), &[]);
        assert_eq!(world.joined.wait(), Ok(()));
    });
}

#[test]
fn m_01_an_alarm_is_proposed_for_this_member_until_it_shows() {
    with_actor(|world| {
        world.changed("n1", Some("3.7.0"), &[]);
        world.lead();
        let (_, publish) = world.proposed();
        publish.reply.send(Ok(ApplyReply::Done));
        let alarm = AlarmType::Nospace;
        let mut callers: Vec<_> = (0..10).map(|_| world.raise(alarm)).collect();
        let (request, propose) = world.proposed();
        let wanted = AlarmRequest {
            action: 1,
            member_id: 0xa,
            alarm: alarm as i32,
        };
        assert_eq!(request.alarm, Some(wanted));
        propose.reply.send(Err(EtcdError::Timeout));
        world.tick(1_000);
        world.tick(2_000);
        let (request, propose) = world.proposed();
        assert_eq!(request.alarm, Some(wanted));
        propose.reply.send(Ok(ApplyReply::Done));
        // It is applied, but does not show yet.
        assert!(callers.iter_mut().all(|caller| caller.now().is_none()));
        world.changed("n1", Some("3.7.0"), &[alarm]);
        for caller in callers {
            assert_eq!(caller.wait(), Ok(()));
        }
        world.tick(10_000);
        assert_eq!(world.raise(alarm).wait(), Ok(()));
        world.stop();
        assert!(world.raft.next().is_none());
        let shown = prometheus::gather();
        let shown = shown
            .iter()
            .find(|family| family.get_name() == "etcd_debugging_server_alarms");
        let labels = |metric: &prometheus::proto::Metric| {
            let labels = metric.get_label().iter();
            labels
                .map(|label| label.get_value().to_owned())
                .collect::<Vec<_>>()
        };
        let metric = &shown.unwrap().get_metric()[0];
        assert_eq!(
            (labels(metric), metric.get_gauge().get_value()),
            (vec!["NOSPACE".to_owned(), "a".to_owned()], 1.0)
        );
    });
}
