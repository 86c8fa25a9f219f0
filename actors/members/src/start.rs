//! How the members actor is started and connected, and what it receives.

use crate::actor::{Connect, Members};
use crate::metrics;
use crate::reconciler::MembersConfig;
use actix::{Actor, Addr, ArbiterHandle};
use rusd_messages::members::{MembersChanged, RaiseAlarm};
use rusd_messages::{Port, Proposer, Reply, RoleChanged, Stop, Tick};

/// Changes of members, alarms and version are rare; the credits of Apply bound them.
const CHANGES_QUEUE: usize = 4_096;
/// Every refused write asks for the same alarm; what does not fit is asked for again by the next.
const ALARMS_QUEUE: usize = 4_096;
/// Role changes come seconds apart.
const ROLES_QUEUE: usize = 64;

/// What the members actor sends to.
#[derive(Clone, Debug)]
pub struct Links {
    /// Takes its proposals to the log.
    pub proposer: Proposer,
}

/// What the members actor receives.
#[derive(Clone, Debug)]
pub struct Ports {
    /// What is published now, from the state machine.
    pub changed: Port<MembersChanged>,
    /// From whoever sees a condition for an alarm.
    pub raise_alarm: Port<RaiseAlarm>,
    /// Whether this member leads and knows a leader, from Raft.
    pub role: Port<RoleChanged>,
    /// Time, several times per [`RETRY_MS`](crate::reconciler::RETRY_MS).
    pub tick: Port<Tick>,
    /// Ends the actor; those who wait for an alarm are dropped.
    pub stop: Port<Stop>,
}

impl Ports {
    fn new(address: &Addr<Members>) -> Self {
        Self {
            changed: Port::new("members_changed", CHANGES_QUEUE, address),
            raise_alarm: Port::new("members_raise_alarm", ALARMS_QUEUE, address),
            role: Port::new("members_role", ROLES_QUEUE, address),
            tick: Port::new("members_tick", 1, address),
            stop: Port::new("members_stop", 1, address),
        }
    }
}

/// A started actor, which proposes nothing until it is connected.
#[derive(Debug)]
pub struct Started {
    /// Usable at once; nothing is proposed before it is connected.
    pub ports: Ports,
    address: Addr<Members>,
}

impl Started {
    /// Connects it. Do so before anything is told to it.
    pub fn connect(self, links: Links) -> Ports {
        self.address.do_send(Connect(links));
        self.ports
    }
}

/// Starts the actor on an arbiter, which it may share. `joined` is answered once this member has published itself
/// through the log, and so can serve.
pub fn start(arbiter: &ArbiterHandle, config: MembersConfig, joined: Reply<()>) -> Started {
    metrics::init();
    let address = Members::start_in_arbiter(arbiter, move |_| Members::new(config, joined));
    Started {
        ports: Ports::new(&address),
        address,
    }
}
