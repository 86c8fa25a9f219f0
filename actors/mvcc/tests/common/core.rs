//! The state machine's core. The output of a command is what it asks for, in order.
//!
//! * `batch REQUEST... [from=INDEX]`: applies entries as one batch, after the last one or from an index on. A request
//!   is `put=KEY`, `big=BYTES`, `refused=BYTES` (a put with a lease that does not exist), `del=KEY`, `grant=LEASE`,
//!   `attach=LEASE`, `revoke=LEASE`, `compact=REVISION`, `physical=REVISION` (answered when all is removed), `alarm`,
//!   `join=MEMBER`, `leave=MEMBER` or `empty`.
//! * `tick MS`, `step RECORDS`, `lease-keys LEASE`, `stop`.
//! * `wrote`: the engine has the oldest batch it was given. `hashed`: the hash asked for last is done.
//! * `hub streams=N [previous=N]`: what the hub says it wants. `full PORT...`: queues that refuse from now on: `hub`,
//!   `lag`, `compactor`.
//! * `restart`: another core over what the engine has.

use super::entries::entry;
use super::named;
use goldenscript::{Command, Context};
use rusd_messages::lease::LeaseChange;
use rusd_messages::mvcc::CommittedEntry;
use rusd_messages::watch::WatchDemand;
use rusd_messages::{Index, LeaseId, LiveLeases, Pending, Reply, Term};
use rusd_mvcc::{Core, Effect, Write as EngineWrite};
use rusd_proto::{ApplyReply, ApplyResult};
use rusd_state::StateMachine;
use rusd_storage::engine::{Engine, Memory};
use rusd_storage::{CompactionHash, MvccOptions, MvccStore, ReadAt};
use std::collections::{HashMap, VecDeque};
use std::error::Error;
use std::fmt::Write;
use std::sync::Arc;

#[derive(Default)]
struct Full {
    hub: bool,
    lag: bool,
    compactor: bool,
}

pub struct Runner {
    engine: Arc<Memory>,
    core: Core,
    live_leases: Arc<LiveLeases>,
    demand: Arc<WatchDemand>,
    full: Full,
    last_index: u64,
    to_write: VecDeque<EngineWrite>,
    hash: Option<CompactionHash>,
    /// So that the replies are wanted.
    callers: Vec<Pending<ApplyResult>>,
}

fn core_over(engine: &Arc<Memory>, leases: &Arc<LiveLeases>, demand: &Arc<WatchDemand>) -> Core {
    let store = MvccStore::open(engine.clone(), MvccOptions::default()).unwrap();
    let machine = StateMachine::open(store).unwrap();
    Core::new(machine, leases.clone(), demand.clone())
}

impl Runner {
    pub fn new() -> Self {
        let engine = Arc::new(Memory::new());
        let (live_leases, demand) = (Arc::default(), Arc::default());
        Self {
            core: core_over(&engine, &live_leases, &demand),
            engine,
            live_leases,
            demand,
            full: Full::default(),
            last_index: 0,
            to_write: VecDeque::new(),
            hash: None,
            callers: Vec::new(),
        }
    }

    fn batch<'a>(
        &mut self,
        requests: impl Iterator<Item = (&'a str, &'a str)>,
        from: Option<u64>,
    ) -> Vec<CommittedEntry> {
        let first = from.unwrap_or(self.last_index + 1);
        let mut entries = Vec::new();
        for (index, request) in (first..).zip(requests) {
            let (kind, data) = entry(request.0, request.1);
            let (reply, caller) = Reply::channel();
            self.callers.push(caller);
            self.last_index = self.last_index.max(index);
            entries.push(CommittedEntry {
                index: Index(index),
                term: Term(1),
                kind,
                data,
                reply: Some(reply),
            });
        }
        entries
    }

    fn perform(&mut self, effects: Vec<Effect>, output: &mut String) {
        for effect in effects {
            writeln!(output, "{}", self.shown(&effect)).unwrap();
            match effect {
                Effect::Committed(committed) if self.full.hub => {
                    output.push_str("  full\n");
                    let instead = self.core.committed_refused(&committed);
                    self.perform(instead.into_iter().collect(), output);
                }
                Effect::Lagged(lagged) if self.full.lag => {
                    output.push_str("  full\n");
                    self.core.lagged_refused(lagged);
                }
                Effect::Revision(_) if self.full.compactor => {
                    output.push_str("  full\n");
                    self.core.revision_refused();
                }
                Effect::Write(write) => self.to_write.push_back(write),
                Effect::Hash(hash) => self.hash = Some(hash),
                _ => {}
            }
        }
    }

    fn shown(&self, effect: &Effect) -> String {
        match effect {
            Effect::Published { through } => {
                let views = self.core.machine().views();
                let (view, through) = (views.peek().clone(), through.0);
                assert_eq!(view.applied_index(), through, "published, and not visible");
                format!("published: entry {through}, revision {}", view.revision())
            }
            Effect::Applied(applied) => format!("raft: credits through {}", applied.through.0),
            Effect::Members(published) => format!(
                "members: {:?}, alarms {}",
                published.members.iter().map(|m| m.id).collect::<Vec<_>>(),
                published.alarms.len()
            ),
            Effect::Leases(changed) => {
                let mut shown = String::from("lease timer:");
                for change in &changed.changes {
                    write!(shown, " {}", self.shown_lease(*change)).unwrap();
                }
                shown
            }
            Effect::ConfApplied(change) => {
                let word = if change.rejected {
                    "rejected"
                } else {
                    "applied"
                };
                format!("raft: conf change {} {word}", change.index.0)
            }
            Effect::Hash(_) => "hasher: compaction".to_owned(),
            Effect::Compacted(compacted) => format!("hub: compacted {}", compacted.revision),
            Effect::CompactionPending(pending) => {
                format!("compactor: pending {}", pending.revision)
            }
            Effect::Committed(committed) => {
                let mut shown = String::from("hub: committed");
                for revision in &committed.revisions {
                    let with = if revision.with_previous { "+" } else { "" };
                    write!(shown, " {}{with}", revision.revision).unwrap();
                }
                shown
            }
            Effect::Lagged(lagged) => format!("hub: lagged through {}", lagged.through),
            Effect::Revision(advanced) => format!("compactor: revision {}", advanced.revision),
            Effect::Replies(replies) => {
                let results: Vec<_> = replies
                    .iter()
                    .map(|(_, result)| result_of(result))
                    .collect();
                format!("callers: {}", results.join(", "))
            }
            Effect::Write(write) => format!(
                "engine: write {} through entry {}, {} bytes of log",
                write.batch.seq, write.progress.applied.index, write.log_bytes
            ),
            Effect::Stepped(stepped) => {
                let end = if stepped.finished { ", finished" } else { "" };
                let next = if stepped.next_removes {
                    "removes"
                } else {
                    "looks"
                };
                format!("compactor: stepped {}, next {next}{end}", stepped.removed)
            }
        }
    }

    /// With whether handlers find it.
    fn shown_lease(&self, change: LeaseChange) -> String {
        let (word, id) = match change {
            LeaseChange::Restored { id, .. } => ("restored", id),
            LeaseChange::Granted { id, .. } => ("granted", id),
            LeaseChange::Revoked { id } => ("revoked", id),
            LeaseChange::Checkpointed { id, .. } => ("checkpointed", id),
        };
        let live = if self.live_leases.get(id).is_some() {
            "live"
        } else {
            "gone"
        };
        format!("{word} {} ({live})", id.0)
    }
}

fn result_of(result: &ApplyResult) -> String {
    let revision = match result {
        Ok(ApplyReply::Put(response)) => response.header,
        Ok(ApplyReply::DeleteRange(response)) => response.header,
        Ok(_) => None,
        Err(error) => return error.to_string(),
    };
    revision.map_or("ok".to_owned(), |header| {
        format!("revision {}", header.revision)
    })
}

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let words: Vec<_> = command.args.iter().map(named).collect();
        let options: HashMap<_, _> = words.iter().copied().collect();
        let number = |n: usize| words[n].0.parse::<u64>().unwrap();
        let (mut effects, mut output) = (Vec::new(), String::new());
        match command.name.as_str() {
            "batch" => {
                let from = options.get("from").map(|n| n.parse()).transpose()?;
                let requests = words.iter().copied().filter(|(name, _)| *name != "from");
                let entries = self.batch(requests, from);
                self.core.apply(entries, |_, _| {}, &mut effects);
            }
            "tick" => self.core.tick(number(0), &mut effects),
            "step" => self.core.compact_step(number(0) as usize, &mut effects),
            "stop" => self.core.stop(&mut effects),
            "lease-keys" => {
                let keys = self.core.lease_keys(LeaseId(number(0) as i64));
                writeln!(output, "{keys:?}")?;
            }
            "wrote" => {
                let write = self.to_write.pop_front().expect("a batch was handed over");
                self.engine.write(&write.batch.batch)?;
                self.core.engine_wrote(write.batch.seq, &mut effects);
            }
            "hashed" => {
                self.hash.take().expect("a hash was asked for").run()?;
            }
            "hub" => {
                let count = |name| options.get(name).map_or(Ok(0), |n| n.parse());
                self.demand.set(count("streams")?, count("previous")?);
            }
            "full" => {
                self.full = Full {
                    hub: options.contains_key("hub"),
                    lag: options.contains_key("lag"),
                    compactor: options.contains_key("compactor"),
                };
            }
            "restart" => {
                self.to_write.clear();
                self.core = core_over(&self.engine, &self.live_leases, &self.demand);
                self.core.restored(&mut effects);
            }
            other => return Err(format!("unknown command {other}").into()),
        }
        self.perform(effects, &mut output);
        Ok(output)
    }
}
