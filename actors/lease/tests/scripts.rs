//! Golden scripts of the lease timer: `scripts/` holds them, each named after its row of the contract.
//!
//! Commands: `new [checkpoint=SECONDS]`, `restore ID TTL [REMAINING]`, `grant ID TTL [count=N]`, `revoke ID [count=N]`,
//! `checkpointed ID REMAINING`, `lead TERM`, `follow`, `tick MS`, `refused ID`, `renew ID [MS]` (so long after the
//! tick), `ttl ID`, `list`. Ids with a count go up from the first. Proposals are shown after each tick and each
//! change; more than eight of them as a range. The election timeout is 1 s, the request timeout 7 s.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use goldenscript::{Command, Context};
use rusd_kit::Args;
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

impl Runner {
    /// What the state machine, the role and the clock tell.
    fn hear(&mut self, args: &Args, output: &mut String) -> Result<(), Box<dyn Error>> {
        let word = |n: usize| args.number_or(n, 0_i64);
        let id = LeaseId(word(0));
        let count: i64 = args.option("count");
        let ids = (id.0..id.0 + count.max(1)).map(LeaseId);
        match args.name() {
            "restore" => {
                let (ttl_s, remaining_ttl_s) = (word(1), word(2));
                let restored = LeaseChange::Restored {
                    id,
                    ttl_s,
                    remaining_ttl_s,
                };
                self.change(restored, output);
            }
            "grant" => {
                let ttl_s = word(1);
                ids.for_each(|id| self.change(LeaseChange::Granted { id, ttl_s }, output));
            }
            "revoke" if count == 0 => self.change(LeaseChange::Revoked { id }, output),
            "revoke" => {
                for id in ids {
                    self.enter(LeaseChange::Revoked { id });
                    self.timer.change(LeaseChange::Revoked { id });
                }
            }
            "checkpointed" => {
                let remaining_ttl_s = word(1);
                self.change(
                    LeaseChange::Checkpointed {
                        id,
                        remaining_ttl_s,
                    },
                    output,
                );
            }
            "lead" => {
                let changed = self.timer.lead(Some(Term(args.number(0))));
                writeln!(output, "changed={changed}")?;
            }
            "follow" => writeln!(output, "changed={}", self.timer.lead(None))?,
            "tick" => {
                self.now_ms = args.number(0);
                self.timer.tick(self.now_ms);
            }
            "refused" => self.timer.not_proposed(&Proposal::Revoke(id)),
            other => return Err(format!("unknown command {other}").into()),
        }
        Ok(())
    }

    fn ttl(&self, id: LeaseId) -> String {
        match self.timer.remaining(id) {
            None => "not primary".to_owned(),
            Some(None) => "no such lease".to_owned(),
            Some(Some(left)) => format!("{} of {}", left.ttl_s, left.granted_ttl_s),
        }
    }

    fn list(&self) -> String {
        let ids = self.timer.list();
        let ids: Vec<String> = ids.iter().map(|id| id.0.to_string()).collect();
        ids.join(" ")
    }
}

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let args = Args::new(command);
        let id = || LeaseId(args.number(0));
        let mut output = String::new();
        match args.name() {
            "new" => *self = Self::new(args.option("checkpoint")),
            "renew" => writeln!(output, "{}", self.renew(id(), args.number_or(1, 0)))?,
            "ttl" => writeln!(output, "{}", self.ttl(id()))?,
            "list" => writeln!(output, "{}", self.list())?,
            "size" => {
                let (leases, in_flight) = (self.timer.len(), self.timer.in_flight());
                writeln!(output, "{leases} leases, {in_flight} in flight")?;
            }
            _ => self.hear(&args, &mut output)?,
        }
        if ["revoke", "checkpointed", "tick"].contains(&args.name()) {
            self.proposals(&mut output);
        }
        self.timer.check();
        Ok(output)
    }
}

rusd_kit::run_dir!("tests/scripts", Runner::new(0), [
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
]);
