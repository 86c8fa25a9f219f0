//! All members, their clients, and what happens to them.

use crate::checks::Checks;
use crate::client::Clients;
use crate::clock::{Clock, Micros, ms};
use crate::faults::Planted;
use crate::host::{Event, Host};
use crate::member::Member;
use crate::member::message::Input;
use crate::network::Network;
use crate::random::Random;
use crate::settings::Settings;
use crate::trace::Trace;
use rusd_messages::{Fatal, MemberId};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

/// The only member.
const LONE: MemberId = MemberId(0xa1);
/// How long everything gets to come to rest: any lease ends in it, whoever led before.
const SETTLE_MS: u64 = 20_000;
/// So many times, if there is still something to wait for.
const SETTLE_ROUNDS_MAX: usize = 60;
/// Events of a seed; many times more than any should need.
const EVENTS_MAX: u64 = 2_000_000;

/// What a seed came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The hash of everything that happened, in order.
    pub trace: u64,
    /// How much that was.
    pub lines: u64,
    /// Virtual milliseconds.
    pub took_ms: u64,
    /// The revision in the end.
    pub revision: i64,
}

/// A seed that broke a promise, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub seed: u64,
    pub what: String,
}

struct World {
    host: Host,
    members: Vec<Member>,
    clients: Clients,
}

impl World {
    fn new(seed: u64, planted: Option<Planted>, prints: bool) -> Self {
        let mut random = Random::new(seed);
        let settings = Settings::draw(&mut random);
        let mut host = Host {
            clock: Clock::default(),
            network: Network::new(settings.hop_us),
            checks: Checks::default(),
            trace: Trace::new(prints),
            planted,
            member: 0,
            boot: 0,
            random,
            settings,
        };
        let clients = Clients::new(0, &mut host);
        Self {
            host,
            members: vec![Member::founded(LONE)],
            clients,
        }
    }

    fn begin(&mut self) {
        for member in 0..self.members.len() {
            self.host.clock.at(0, Event::Start { member });
        }
        self.host.clock.at(ms(50), Event::Clients);
        let busy_us = self.host.settings.actions * self.host.settings.action_us / 2;
        for _ in 0..self.host.settings.crashes {
            let at_us = self.host.random.within(0..busy_us);
            let member = self.host.random.size(0..self.members.len());
            self.host.clock.at(at_us, Event::Crash { member });
        }
    }

    /// Handles the next event.
    fn step(&mut self) {
        let Some(event) = self.host.clock.pop() else {
            return;
        };
        match event {
            Event::Clients => {
                let process = self.members[0].process.as_mut();
                self.clients.act(process, &mut self.host);
            }
            Event::Start { member } => self.start(member),
            Event::Crash { member } => {
                let loses_engine = self.host.random.percent(30);
                self.crash(member, loses_engine);
            }
            Event::Member {
                member,
                boot,
                input,
            } => self.input(member, boot, input),
        }
    }

    fn input(&mut self, number: usize, boot: u64, input: Input) {
        self.host.member = number;
        let member = &mut self.members[number];
        if !member.turn(boot, &mut self.host) {
            return;
        }
        let text = input.text();
        self.host.note(&text);
        match (input, &mut member.process) {
            (Input::Ask { ask, floor }, Some(process)) => {
                self.clients.arrived(ask, floor, process, &mut self.host);
            }
            (input, _) => member.input(input, &mut self.host),
        }
        if let Some(process) = &mut member.process {
            self.clients.poll(process, &mut self.host);
        }
    }

    fn start(&mut self, member: usize) {
        self.host.member = member;
        self.host.note("start");
        self.members[member].start(&mut self.host);
    }

    fn crash(&mut self, member: usize, loses_engine: bool) {
        if self.members[member].process.is_none() {
            return;
        }
        self.host.member = member;
        self.host.note("crash");
        self.members[member].crash(loses_engine, &mut self.host);
        self.clients.disconnected(&mut self.host);
        let after_us = self.host.random.within(0..ms(500));
        self.host.clock.after(after_us, Event::Start { member });
    }

    fn run_until(&mut self, until_us: Micros) {
        while self.host.now_us() < until_us {
            self.step();
            if self.host.random.percent(5) {
                self.clients.read_all(&mut self.host);
            }
        }
    }

    /// Lets everything come to rest, and looks whether all promises are kept. Where every hop is slow and history comes
    /// in small pages, that takes a while.
    fn settle(&mut self) {
        let mut waited_for = None;
        for _ in 0..SETTLE_ROUNDS_MAX {
            let until_us = self.host.now_us() + ms(SETTLE_MS);
            self.run_until(until_us);
            let overdue = self.host.checks.overdue(until_us - ms(SETTLE_MS / 4));
            assert!(overdue.is_empty(), "leases {overdue:?} do not end");
            waited_for = self.clients.wait_for(&self.host);
            if waited_for.is_none() {
                break;
            }
        }
        assert_eq!(waited_for, None);
        for member in &self.members {
            member.check(&mut self.host.checks);
        }
    }

    fn run(mut self) -> Report {
        self.begin();
        let mut events = 0;
        while self.clients.have_more() {
            self.step();
            events += 1;
            assert!(events < EVENTS_MAX, "there is no end");
        }
        self.settle();
        self.crash(0, false);
        self.settle();
        let (trace, lines) = self.host.trace.hash();
        Report {
            trace,
            lines,
            took_ms: self.host.now_us() / 1_000,
            revision: self.host.checks.model().revision,
        }
    }
}

/// Runs a seed, and prints what happens if that is wanted.
pub fn run(seed: u64, planted: Option<Planted>, prints: bool) -> Result<Report, Found> {
    let world = AssertUnwindSafe(|| World::new(seed, planted, prints).run());
    note_panics();
    SIMULATES.set(true);
    let result = catch_unwind(world);
    SIMULATES.set(false);
    let what = PANIC.take().unwrap_or_default();
    result.map_err(|_| Found { seed, what })
}

thread_local! {
    /// This thread runs a seed.
    static SIMULATES: Cell<bool> = const { Cell::new(false) };
    /// What this thread has panicked with last, and where.
    static PANIC: Cell<Option<String>> = const { Cell::new(None) };
}

/// From here on the panics of seeds are noted instead of printed.
fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let prints = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !SIMULATES.get() {
                return prints(info);
            }
            let fatal = info.payload().downcast_ref::<Fatal>();
            let what = fatal.map(|fatal| format!("{}: {}", fatal.doing, fatal.error));
            let what = what.or_else(|| info.payload_as_str().map(str::to_owned));
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            PANIC.set(Some(format!("{place}: {}", what.unwrap_or_default())));
        }));
    });
}

/// Runs so many seeds from `first` on, each in one thread, on all processors; what is found, by seed.
pub fn explore(first: u64, seeds: u64) -> Vec<Found> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicU64::new(first);
    let explore = || {
        let mut found = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds {
                return found;
            }
            found.extend(run(seed, None, false).err());
        }
    };
    let mut found: Vec<Found> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(explore)).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    found.sort_by_key(|found| found.seed);
    found
}
