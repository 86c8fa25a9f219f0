//! The shell: messages in, proposals out, and what operators read in the log.

use crate::metrics;
use crate::wishes::{MembersConfig, TooOld, Wish, Wishes};
use actix::{Actor, ActorContext, Addr, ArbiterHandle, Context, Handler};
use rusd_messages::members::{MembersChanged, RaiseAlarm};
use rusd_messages::raft::Propose;
use rusd_messages::{Delivery, Pending, Port, Published, Reply, RoleChanged, Stop, Tick};
use rusd_proto::ApplyResult;
use rusd_proto::etcdserverpb::alarm_request::AlarmAction;
use rusd_proto::etcdserverpb::{AlarmRequest, AlarmType, InternalRaftRequest};
use rusd_proto::membershippb::{Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest};
use rusd_proto::request::{self, RequestIds};
use std::sync::Arc;

/// Changes of members, alarms and version are rare; the credits of Apply bound them.
const CHANGES_QUEUE: usize = 4_096;
/// Every refused write asks for the same alarm; what does not fit is asked for again by the next.
const ALARMS_QUEUE: usize = 4_096;
/// Callers who wait for an alarm to be raised: as many as may wait for an entry of the log. Who comes when they are so
/// many is not kept waiting, and may find the alarm a moment later.
const WAITING_MAX: usize = 16_384;
/// Role changes come seconds apart.
const ROLES_QUEUE: usize = 64;

/// Who the members actor tells.
#[derive(Clone, Debug)]
pub struct Links {
    /// Raft.
    pub propose: Port<Propose>,
}

/// What the members actor receives.
#[derive(Clone, Debug)]
pub struct Ports {
    /// From the state machine.
    pub changed: Port<MembersChanged>,
    /// From whoever sees a condition for an alarm.
    pub raise_alarm: Port<RaiseAlarm>,
    /// From Raft.
    pub role: Port<RoleChanged>,
    /// Time.
    pub tick: Port<Tick>,
    /// The end.
    pub stop: Port<Stop>,
}

/// The actor. Start it, then [`connect`](Members::connect) it before anything is told to it.
pub struct Members {
    config: MembersConfig,
    wishes: Wishes,
    shown: Arc<Published>,
    ids: Arc<RequestIds>,
    links: Option<Links>,
    /// At most one for each kind of wish.
    proposed: Vec<(Wish, Pending<ApplyResult>)>,
    /// Who waits for which alarm.
    waiting: Vec<(AlarmType, Reply<()>)>,
    joined: Option<Reply<()>>,
}

struct Connect(Links);

impl actix::Message for Connect {
    type Result = ();
}

impl Actor for Members {
    type Context = Context<Self>;
}

impl Handler<Connect> for Members {
    type Result = ();

    fn handle(&mut self, Connect(links): Connect, _: &mut Context<Self>) {
        self.links = Some(links);
    }
}

impl Members {
    /// Starts the actor on an arbiter, which it may share. `joined` is answered once this member has published itself
    /// through the log, and so can serve.
    pub fn start(
        arbiter: &ArbiterHandle,
        config: MembersConfig,
        ids: Arc<RequestIds>,
        joined: Reply<()>,
    ) -> Addr<Self> {
        metrics::init();
        Self::start_in_arbiter(arbiter, move |_| Self {
            wishes: Wishes::new(config.clone()),
            config,
            shown: Arc::default(),
            ids,
            links: None,
            proposed: Vec::new(),
            waiting: Vec::new(),
            joined: Some(joined),
        })
    }

    /// The doors of a started actor.
    pub fn ports(address: &Addr<Self>) -> Ports {
        Ports {
            changed: Port::new("members_changed", CHANGES_QUEUE, address),
            raise_alarm: Port::new("members_raise_alarm", ALARMS_QUEUE, address),
            role: Port::new("members_role", ROLES_QUEUE, address),
            tick: Port::new("members_tick", 1, address),
            stop: Port::new("members_stop", 1, address),
        }
    }

    /// Hands the links over.
    pub fn connect(address: &Addr<Self>, links: Links) {
        address.do_send(Connect(links));
    }

    /// Learns what came of proposals, and makes new ones.
    fn go_on(&mut self) {
        let wishes = &mut self.wishes;
        self.proposed.retain_mut(|(wish, pending)| {
            let Some(answer) = pending.now() else {
                return true;
            };
            let failure = match answer {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(dropped) => Some(dropped.to_string()),
            };
            if let Some(error) = &failure {
                tracing::warn!(
                    ?wish,
                    error,
                    "a proposal of this member failed, and will be repeated"
                );
            }
            wishes.finished(wish, failure.is_none());
            false
        });
        if self.wishes.just_joined() {
            tracing::info!(
                "local-member-id" = %self.config.member,
                name = self.config.name,
                "client-urls" = ?self.config.client_urls,
                "published local member to cluster through raft"
            );
            if let Some(joined) = self.joined.take() {
                joined.send(());
            }
        }
        for wish in self.wishes.proposals() {
            self.propose(wish);
        }
    }

    fn propose(&mut self, wish: Wish) {
        tracing::debug!(?wish, "proposing");
        let id = self.ids.next();
        let data = request::encode(id, self.encode(&wish));
        let (reply, pending) = Reply::channel();
        if let Some(links) = &self.links {
            // What is refused drops its reply, and so shows as any other failure.
            drop(links.propose.tell(Propose { id, data, reply }));
        }
        self.proposed.push((wish, pending));
    }

    fn encode(&self, wish: &Wish) -> InternalRaftRequest {
        let mut request = InternalRaftRequest::default();
        match wish {
            Wish::Publish => {
                request.cluster_member_attr_set = Some(ClusterMemberAttrSetRequest {
                    member_id: self.config.member.0,
                    member_attributes: Some(Attributes {
                        name: self.config.name.clone(),
                        client_urls: self.config.client_urls.clone(),
                    }),
                });
            }
            Wish::Version(version) => {
                request.cluster_version_set = Some(ClusterVersionSetRequest {
                    ver: version.to_string(),
                });
            }
            Wish::Alarm(kind) => {
                request.alarm = Some(AlarmRequest {
                    action: AlarmAction::Activate as i32,
                    member_id: self.config.member.0,
                    alarm: *kind as i32,
                });
            }
        }
        request
    }

    /// Tells operators what changed.
    fn show(&mut self, published: Arc<Published>) {
        metrics::show(&self.shown, &published);
        if self.shown.cluster_version != published.cluster_version {
            let before = self.shown.cluster_version.as_deref().unwrap_or("unknown");
            let now = published.cluster_version.as_deref().unwrap_or("unknown");
            tracing::info!(
                from = before,
                "cluster-version" = now,
                "updated cluster version"
            );
        }
        for alarm in published
            .alarms
            .iter()
            .filter(|alarm| !self.shown.alarms.contains(alarm))
        {
            let from = format!("{:x}", alarm.member_id);
            tracing::warn!(alarm = metrics::kind_name(alarm), from, "alarm raised");
        }
        for alarm in self
            .shown
            .alarms
            .iter()
            .filter(|alarm| !published.alarms.contains(alarm))
        {
            let from = format!("{:x}", alarm.member_id);
            tracing::warn!(alarm = metrics::kind_name(alarm), from, "alarm disarmed");
        }
        self.shown = published;
        let (shown, member) = (&self.shown, self.config.member);
        let raised = self
            .waiting
            .extract_if(.., |(kind, _)| shown.has_alarm_of(member, *kind));
        raised.for_each(|(_, reply)| reply.send(()));
    }

    /// Answers once the alarm shows.
    fn wait_for(&mut self, alarm: AlarmType, reply: Reply<()>) {
        if self.shown.has_alarm_of(self.config.member, alarm) {
            return reply.send(());
        }
        if self.waiting.len() >= WAITING_MAX {
            self.waiting.retain(|(_, reply)| reply.is_wanted());
        }
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push((alarm, reply));
        }
    }
}

/// Ends the process: a member that does not speak the cluster's version would misread its log.
#[allow(clippy::panic)]
fn refuse(TooOld { cluster, member }: TooOld) -> ! {
    panic!(
        "the cluster is at version {cluster}, and this member is started as version {member}, which is lower: \
         start it as version {cluster} or later"
    );
}

impl Handler<Delivery<MembersChanged>> for Members {
    type Result = ();

    fn handle(&mut self, message: Delivery<MembersChanged>, _: &mut Context<Self>) {
        let MembersChanged { published } = message.open();
        self.show(published.clone());
        if let Err(too_old) = self.wishes.changed(published) {
            refuse(too_old);
        }
        self.go_on();
    }
}

impl Handler<Delivery<RaiseAlarm>> for Members {
    type Result = ();

    fn handle(&mut self, message: Delivery<RaiseAlarm>, _: &mut Context<Self>) {
        let RaiseAlarm { alarm, reply } = message.open();
        self.wishes.raise(alarm);
        self.wait_for(alarm, reply);
        self.go_on();
    }
}

impl Handler<Delivery<RoleChanged>> for Members {
    type Result = ();

    fn handle(&mut self, message: Delivery<RoleChanged>, _: &mut Context<Self>) {
        self.wishes.role(&message.open());
        self.go_on();
    }
}

impl Handler<Delivery<Tick>> for Members {
    type Result = ();

    fn handle(&mut self, message: Delivery<Tick>, _: &mut Context<Self>) {
        self.wishes.tick(message.open().now_ms);
        self.go_on();
    }
}

impl Handler<Delivery<Stop>> for Members {
    type Result = ();

    fn handle(&mut self, message: Delivery<Stop>, ctx: &mut Context<Self>) {
        message.open().reply.send(());
        ctx.stop();
    }
}
