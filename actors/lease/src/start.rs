//! How the lease timer is started and connected, and what it receives.

use crate::actor::{Connect, Lease};
use crate::metrics;
use crate::timer::{LeaseConfig, LeaseTimer};
use actix::{Actor, Addr, ArbiterHandle};
use rusd_messages::lease::{KeepAlive, LeasesChanged, ListLeases, TimeToLive};
use rusd_messages::{LiveLeases, Port, Proposer, RoleChanged, Stop, Tick};
use std::sync::Arc;

/// Batches of changes. The credits of Apply bound them; this only names the bound.
const CHANGES_QUEUE: usize = 4_096;
/// Renewals and questions of clients: about ten milliseconds of work.
const REQUESTS_QUEUE: usize = 16_384;
/// Listings cost in proportion to the leases, and nobody needs many at a time.
const LISTINGS_QUEUE: usize = 64;
/// Role changes come seconds apart.
const ROLES_QUEUE: usize = 64;

/// What the lease timer sends to.
#[derive(Clone, Debug)]
pub struct Links {
    /// Takes revocations and checkpoints to the log.
    pub proposer: Proposer,
}

/// What the lease timer receives.
#[derive(Clone, Debug)]
pub struct Ports {
    /// Replicated changes, from the state machine.
    pub changes: Port<LeasesChanged>,
    /// Renewals that cannot be made in place.
    pub keep_alive: Port<KeepAlive>,
    /// Questions for what is left.
    pub time_to_live: Port<TimeToLive>,
    /// Questions for all leases.
    pub list: Port<ListLeases>,
    /// Whether this member leads, from Raft.
    pub role: Port<RoleChanged>,
    /// Time, at least once per [`CHECK_INTERVAL_MS`](crate::timer::CHECK_INTERVAL_MS).
    pub tick: Port<Tick>,
    /// Ends the actor; renewals that wait are dropped.
    pub stop: Port<Stop>,
}

impl Ports {
    fn new(address: &Addr<Lease>) -> Self {
        Self {
            changes: Port::new("lease_changes", CHANGES_QUEUE, address),
            keep_alive: Port::new("lease_keep_alive", REQUESTS_QUEUE, address),
            time_to_live: Port::new("lease_time_to_live", REQUESTS_QUEUE, address),
            list: Port::new("lease_list", LISTINGS_QUEUE, address),
            role: Port::new("lease_role", ROLES_QUEUE, address),
            tick: Port::new("lease_tick", 1, address),
            stop: Port::new("lease_stop", 1, address),
        }
    }
}

/// A started lease timer, which proposes nothing until it is connected.
#[derive(Debug)]
pub struct Started {
    /// Usable at once; nothing is proposed before it is connected.
    pub ports: Ports,
    address: Addr<Lease>,
}

impl Started {
    /// Connects it. Do so before anything is told to it.
    pub fn connect(self, links: Links) -> Ports {
        self.address.do_send(Connect(links));
        self.ports
    }
}

/// Starts the actor on an arbiter, which it may share. `live` is the table that the state machine publishes.
pub fn start(arbiter: &ArbiterHandle, config: LeaseConfig, live: Arc<LiveLeases>) -> Started {
    metrics::init();
    let address =
        Lease::start_in_arbiter(arbiter, move |_| Lease::new(LeaseTimer::new(config, live)));
    Started {
        ports: Ports::new(&address),
        address,
    }
}
