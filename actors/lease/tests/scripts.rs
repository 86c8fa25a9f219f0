//! Golden scripts of the lease timer: `scripts/` holds them, each named after its row of the contract.
//!
//! Commands: `new [checkpoint=SECONDS]`, `restore ID TTL [REMAINING]`, `grant ID TTL [count=N]`, `revoke ID [count=N]`,
//! `checkpointed ID REMAINING`, `lead TERM`, `follow`, `tick MS`, `refused ID`, `renew ID [MS]` (so long after the
//! tick), `ttl ID`, `list`. Ids with a count go up from the first. Proposals are shown after each tick and each
//! change; more than eight of them as a range. The election timeout is 1 s, the request timeout 7 s.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use goldenscript::{Argument, Command, Context};
use rusd_lease::timer::{LeaseTimer, Settled};
use rusd_lease::{LeaseConfig, Proposal};
use rusd_messages::lease::LeaseChange;
use rusd_messages::live_leases::InPlace;
use rusd_messages::{LeaseId, LiveLeases, Term};
use std::error::Error;
use std::fmt::Write;
use std::sync::Arc;

struct Runner {
    timer: LeaseTimer,
    live: Arc<LiveLeases>,
    now_ms: u64,
}

impl Runner {
    fn new(checkpoint_s: u64) -> Self {
        let config = LeaseConfig {
            election_timeout_ms: 1_000,
            request_timeout_ms: 7_000,
            checkpoint_interval_ms: (checkpoint_s > 0).then_some(checkpoint_s * 1_000),
        };
        let live = Arc::new(LiveLeases::default());
        Self {
            timer: LeaseTimer::new(config, live.clone()),
            live,
            now_ms: 0,
        }
    }

    /// The state machine comes first.
    fn enter(&self, change: LeaseChange) {
        match change {
            LeaseChange::Restored { id, ttl_s, .. } | LeaseChange::Granted { id, ttl_s } => {
                self.live.insert(id, ttl_s)
            }
            LeaseChange::Revoked { id } => self.live.remove(id),
            LeaseChange::Checkpointed { .. } => {}
        }
    }

    fn renew(&mut self, id: LeaseId, after_ms: u64) -> String {
        match self.live.renew(id, self.now_ms + after_ms) {
            InPlace::Closed => format!("{:?}", self.timer.renew(id)),
            in_place => format!("{in_place:?} in place"),
        }
    }

    fn change(&mut self, change: LeaseChange, output: &mut String) {
        self.enter(change);
        match self.timer.change(change) {
            Settled::Nothing => {}
            settled => writeln!(output, "{settled:?}").unwrap(),
        }
    }

    fn proposals(&mut self, output: &mut String) {
        let proposals = self.timer.proposals();
        let revokes: Vec<i64> = proposals
            .iter()
            .filter_map(|proposal| match proposal {
                Proposal::Revoke(id) => Some(id.0),
                Proposal::Checkpoint(_) => None,
            })
            .collect();
        match (revokes.len(), revokes.first(), revokes.last()) {
            (9.., Some(first), Some(last)) => {
                writeln!(output, "-> {} revokes {first}..{last}", revokes.len()).unwrap()
            }
            _ => revokes
                .iter()
                .for_each(|id| writeln!(output, "-> revoke {id}").unwrap()),
        }
        for proposal in &proposals {
            if let Proposal::Checkpoint(leases) = proposal {
                let shown: Vec<String> = leases
                    .iter()
                    .take(8)
                    .map(|(id, left_s)| format!("{}={left_s}s", id.0))
                    .collect();
                writeln!(
                    output,
                    "-> checkpoint of {}: {}",
                    leases.len(),
                    shown.join(" ")
                )
                .unwrap();
            }
        }
    }
}

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let mut words = Vec::new();
        let mut option = None;
        for argument in &command.args {
            match argument {
                Argument::Positional(word) => words.push(word.parse::<i64>()?),
                Argument::KeyValue(_, value) => option = Some(value.parse::<i64>()?),
                other => panic!("{other:?}"),
            }
        }
        let word = |n: usize| words.get(n).copied().unwrap_or(0);
        let ids = || (word(0)..word(0) + option.unwrap_or(1)).map(LeaseId);
        let id = LeaseId(word(0));
        let mut output = String::new();
        match command.name.as_str() {
            "new" => *self = Self::new(u64::try_from(option.unwrap_or(0))?),
            "restore" => {
                let (ttl_s, remaining_ttl_s) = (word(1), word(2));
                self.change(
                    LeaseChange::Restored {
                        id,
                        ttl_s,
                        remaining_ttl_s,
                    },
                    &mut output,
                );
            }
            "grant" => {
                for id in ids() {
                    self.change(LeaseChange::Granted { id, ttl_s: word(1) }, &mut output);
                }
            }
            "revoke" => {
                for id in ids() {
                    match option {
                        None => self.change(LeaseChange::Revoked { id }, &mut output),
                        Some(_) => {
                            self.enter(LeaseChange::Revoked { id });
                            self.timer.change(LeaseChange::Revoked { id });
                        }
                    }
                }
                self.proposals(&mut output);
            }
            "checkpointed" => {
                self.change(
                    LeaseChange::Checkpointed {
                        id,
                        remaining_ttl_s: word(1),
                    },
                    &mut output,
                );
                self.proposals(&mut output);
            }
            "lead" => writeln!(
                output,
                "changed={}",
                self.timer.lead(Some(Term(u64::try_from(word(0))?)))
            )?,
            "follow" => writeln!(output, "changed={}", self.timer.lead(None))?,
            "tick" => {
                self.now_ms = u64::try_from(word(0))?;
                self.timer.tick(self.now_ms);
                self.proposals(&mut output);
            }
            "refused" => self.timer.not_proposed(&Proposal::Revoke(id)),
            "renew" => writeln!(output, "{}", self.renew(id, u64::try_from(word(1))?))?,
            "ttl" => match self.timer.remaining(id) {
                None => writeln!(output, "not primary")?,
                Some(None) => writeln!(output, "no such lease")?,
                Some(Some(left)) => writeln!(output, "{} of {}", left.ttl_s, left.granted_ttl_s)?,
            },
            "list" => {
                let ids: Vec<String> = self
                    .timer
                    .list()
                    .iter()
                    .map(|id| id.0.to_string())
                    .collect();
                writeln!(output, "{}", ids.join(" "))?;
            }
            "size" => writeln!(
                output,
                "{} leases, {} in flight",
                self.timer.len(),
                self.timer.in_flight()
            )?,
            other => return Err(format!("unknown command {other}").into()),
        }
        self.timer.check();
        Ok(output)
    }
}

macro_rules! scripts {
    ($($name:ident)*) => {
        const SCRIPTS: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                let path = concat!("tests/scripts/", stringify!($name));
                goldenscript::run(&mut Runner::new(0), path).unwrap();
            }
        )*
    };
}

scripts! {
    l_04_renewal
    l_05_not_primary
    l_06_no_renewal_after_expiry
    l_07_time_to_live
    l_08_listing
    l_09_expiry
    l_09_mass_expiry
    l_09_retries
    l_10_checkpoints
    l_10_new_leader
    l_10_renewal_takes_back_a_checkpoint
    l_11_restart
}

#[test]
fn every_script_is_run() {
    let mut found: Vec<_> = std::fs::read_dir("tests/scripts")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    assert_eq!(found, SCRIPTS);
}
