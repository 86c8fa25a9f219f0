//! What a member finds around it: time, chance, the way to others, and whoever checks what it does.

use crate::checks::Checks;
use crate::clock::{Clock, Micros};
use crate::faults::Planted;
use crate::member::message::{Input, Message};
use crate::network::{MemberNumber, Network, Party};
use crate::random::Random;
use crate::settings::Settings;
use crate::trace::Trace;

/// What happens.
pub enum Event {
    /// Something happens to a member, unless the process that it was meant for is gone.
    Member {
        member: MemberNumber,
        /// Which process of this member it is meant for, counted from its first start.
        boot: u64,
        input: Input,
    },
    /// The clients do something.
    Clients,
    /// A member's process ends, by power loss.
    Crash { member: MemberNumber },
    /// Another process of a member begins.
    Start { member: MemberNumber },
}

/// See the module.
pub struct Host {
    pub clock: Clock<Event>,
    pub random: Random,
    pub network: Network,
    pub checks: Checks,
    pub trace: Trace,
    pub settings: Settings,
    pub planted: Option<Planted>,
    /// Whose turn it is, and which process of it.
    pub member: MemberNumber,
    pub boot: u64,
}

impl Host {
    /// The time.
    pub fn now_us(&self) -> Micros {
        self.clock.now_us()
    }

    /// Whether a bug is planted.
    pub fn has(&self, bug: Planted) -> bool {
        self.planted == Some(bug)
    }

    /// Sends a message to an actor of the member whose turn it is.
    pub fn send(&mut self, from: Party, to: Party, message: Message) {
        let link = ((self.member, from), (self.member, to));
        let now_us = self.now_us();
        let at_us = self.network.arrival_us(now_us, link, &mut self.random);
        let message = Box::new(message);
        self.at(at_us, Input::Message { from, to, message });
    }

    /// Lets something happen to the member whose turn it is, after a while.
    pub fn later(&mut self, usual_us: u64, input: Input) {
        let at_us = self.now_us() + self.random.delay_us(usual_us);
        self.at(at_us, input);
    }

    /// Lets something happen to the member whose turn it is, at a time.
    pub fn at(&mut self, at_us: Micros, input: Input) {
        let (member, boot) = (self.member, self.boot);
        self.clock.at(
            at_us,
            Event::Member {
                member,
                boot,
                input,
            },
        );
    }

    /// Notes what happens.
    pub fn note(&mut self, text: &str) {
        let now_us = self.now_us();
        self.trace.line(now_us, format_args!("{text}"));
    }
}
