//! Delays: between the actors of a member, between members, and between clients and members.
//!
//! Actors have one mailbox each, so what one sends to another arrives in the order in which it was sent; what different
//! ones send to the same one interleaves at random. So a link is a pair, and each has an order of its own.

use crate::clock::Micros;
use crate::random::Random;
use std::collections::BTreeMap;

/// A thread, an actor, or a client, at a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    /// Consensus.
    Raft,
    /// The log's writer thread.
    LogWriter,
    /// The state machine.
    Mvcc,
    /// The engine's writer thread.
    EngineWriter,
    /// The thread that reads past events for the watch hub.
    History,
    /// The watch hub.
    Hub,
    /// The lease timer.
    Lease,
    /// The compactor.
    Compactor,
    /// The members' reconciler.
    Members,
    /// Where the time comes from.
    Clock,
    /// Requests and streams of clients.
    Clients,
}

/// Which member, counted from 0.
pub type MemberNumber = usize;

/// From whom, to whom.
type Link = ((MemberNumber, Party), (MemberNumber, Party));

/// See the module.
pub struct Network {
    /// What a hop between two threads usually takes at most.
    hop_us: u64,
    /// When the last message on a link arrives.
    last_us: BTreeMap<Link, Micros>,
}

impl Network {
    /// Nothing is under way.
    pub fn new(hop_us: u64) -> Self {
        Self {
            hop_us,
            last_us: BTreeMap::new(),
        }
    }

    /// When a message that is sent now arrives.
    pub fn arrival_us(&mut self, now_us: Micros, link: Link, random: &mut Random) -> Micros {
        let ((from_member, from), (to_member, _)) = link;
        let far = from_member != to_member || from == Party::Clients;
        let usual_us = if far { self.hop_us * 10 } else { self.hop_us };
        let last_us = self.last_us.entry(link).or_default();
        *last_us = (now_us + random.delay_us(usual_us)).max(*last_us);
        *last_us
    }

    /// A member has stopped: what was on its way to it does not hold up what comes after.
    pub fn forget(&mut self, member: MemberNumber) {
        self.last_us
            .retain(|((from, _), (to, _)), _| *from != member && *to != member);
    }
}
