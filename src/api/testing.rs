//! Requests with probes in place of the actors: what tests of this room and of the transports stand on.
#![allow(clippy::unwrap_used)]

use super::context::{Limits, Ports, Versions, WatchPorts};
use super::heartbeats::Heartbeats;
use super::{Api, Caller, Context, Peer, PeerAddress};
use rusd_messages::lease::{KeepAlive, ListLeases, TimeToLive};
use rusd_messages::members::RaiseAlarm;
use rusd_messages::mvcc::Defragment;
use rusd_messages::raft::{Propose, ReadIndex};
use rusd_messages::reader::Read;
use rusd_messages::watch::{
    CloseStream, FromStream, OpenStream, SinkLimits, SinkReady, WakeThrough,
};
use rusd_messages::{
    Clock, ClusterId, Heartbeat, Index, LiveLeases, MemberId, Port, Probe, Proposer, RaftStatus,
    Renewer, Term,
};
use rusd_proto::request::RequestIds;
use rusd_state::StateMachine;
use rusd_storage::engine::Memory;
use rusd_storage::{MvccOptions, MvccStore};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// What a client may send in these tests.
pub(crate) const MAX_REQUEST_BYTES: usize = 1000;

/// A member over an empty store that leads, with the receiving end of every port.
pub(crate) struct World {
    pub(crate) api: Api,
    pub(crate) raft: Arc<RaftStatus>,
    pub(crate) propose: Probe<Propose>,
    pub(crate) read_index: Probe<ReadIndex>,
    pub(crate) raise_alarm: Probe<RaiseAlarm>,
    pub(crate) live_leases: Arc<LiveLeases>,
    pub(crate) keep_alive: Probe<KeepAlive>,
    pub(crate) open: Probe<OpenStream>,
    pub(crate) watch_request: Probe<FromStream>,
    pub(crate) close: Probe<CloseStream>,
    pub(crate) defragment: Probe<Defragment>,
    /// What health checks were told last.
    pub(crate) serving: watch::Receiver<bool>,
    heartbeats: [Probe<Heartbeat>; 2],
    _others: Others,
}

/// Ports that no test looks at, kept open.
type Others = (
    Probe<Read>,
    Probe<TimeToLive>,
    Probe<ListLeases>,
    Probe<SinkReady>,
    Probe<WakeThrough>,
);

fn port<M: Send + 'static>() -> (Port<M>, Probe<M>) {
    Port::probe(16)
}

impl World {
    /// Must be made inside a tokio runtime.
    pub(crate) fn new() -> Self {
        Self::with_quota(None)
    }

    /// A member with a quota.
    pub(crate) fn with_quota(quota_bytes: Option<u64>) -> Self {
        let (propose_port, propose) = port();
        let (read_index_port, read_index) = port();
        let (raise_alarm_port, raise_alarm) = port();
        let (keep_alive_port, keep_alive) = port();
        let (open_port, open) = port();
        let (request_port, watch_request) = port();
        let (close_port, close) = port();
        let (defragment_port, defragment) = port();
        let (raft_heartbeat, asked_raft) = port();
        let (machine_heartbeat, asked_machine) = port();
        let (read, read_probe) = port();
        let (time_to_live, time_to_live_probe) = port();
        let (list_leases, list_leases_probe) = port();
        let (sink_ready, sink_ready_probe) = port();
        let (wake_through, wake_through_probe) = port();
        let (say_serving, serving) = watch::channel(true);
        let live_leases = Arc::<LiveLeases>::default();
        let member = MemberId(7);
        let raft = Arc::new(RaftStatus::default());
        raft.set_leadership(Term(2), Some(member));
        raft.set_reads_are_local(true);
        let store = MvccStore::open(Arc::new(Memory::new()), MvccOptions::default()).unwrap();
        let mut machine = StateMachine::open(store).unwrap();
        machine.publish();
        let proposer = Proposer::new(propose_port, Arc::new(RequestIds::new(member, 1)));
        let context = Context {
            cluster: ClusterId(5),
            member,
            versions: Versions {
                server: "3.6.1".to_owned(),
                storage: "3.6.0".to_owned(),
            },
            limits: Limits {
                min_lease_ttl_s: 2,
                max_request_bytes: MAX_REQUEST_BYTES,
                max_txn_ops: 4,
                quota_bytes,
                request_timeout: Duration::from_secs(7),
                warning_unary_request: Duration::ZERO,
                election_timeout: Duration::from_secs(1),
            },
            proposer: proposer.with_limit(MAX_REQUEST_BYTES),
            renewer: Renewer::new(live_leases.clone(), Clock::start(), keep_alive_port),
            raft: raft.clone(),
            views: machine.views(),
            applied: watch::channel(Index(0)).1,
            published: Arc::default(),
            set_serving: Some(Arc::new(move |serving| {
                say_serving.send_replace(serving);
                Box::pin(std::future::ready(()))
            })),
            heartbeats: Heartbeats::start(raft_heartbeat, machine_heartbeat),
            ports: Ports {
                read_index: read_index_port,
                transfer_leader: port().0,
                read,
                lease_keys: port().0,
                defragment: defragment_port,
                time_to_live,
                list_leases,
                raise_alarm: raise_alarm_port,
                watch: WatchPorts {
                    open: open_port,
                    request: request_port,
                    sink_ready,
                    close: close_port,
                    wake_through,
                    sink_limits: SinkLimits {
                        responses: 8,
                        bytes: 1000,
                        requests: 4,
                    },
                },
            },
        };
        Self {
            api: Api::new(context),
            raft,
            propose,
            read_index,
            raise_alarm,
            live_leases,
            keep_alive,
            open,
            watch_request,
            close,
            defragment,
            serving,
            heartbeats: [asked_raft, asked_machine],
            _others: (
                read_probe,
                time_to_live_probe,
                list_leases_probe,
                sink_ready_probe,
                wake_through_probe,
            ),
        }
    }

    /// Answers what the threads were asked.
    pub(crate) fn answer_heartbeats(&self) {
        for thread in &self.heartbeats {
            for question in thread.all() {
                question.reply.send(());
            }
        }
    }
}

/// A client on a connection of its own.
pub(crate) fn caller() -> Caller {
    Caller::new(Arc::new(Peer {
        address: PeerAddress::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 4711))),
        certificate: None,
    }))
}
