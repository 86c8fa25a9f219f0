//! Golden scripts on the core: each command is an input, the output is every effect and every answer.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "common/disk.rs"]
mod disk;

use bytes::Bytes;
use disk::{SharedDisk, founder};
use goldenscript::{Argument, Command, Context, Runner};
use raft::eraftpb::{Entry, EntryType, Message, MessageType};
use rusd_messages::mvcc::{Apply, EntryKind};
use rusd_messages::raft::{EnginePersisted, Propose, ReadIndex, TransferLeader};
use rusd_messages::{Index, MemberId, Pending, RaftStatus, Reply, RequestId};
use rusd_proto::etcdserverpb::{InternalRaftRequest, LeaseRevokeRequest, PutRequest};
use rusd_proto::{ApplyResult, EtcdError, request};
use rusd_raft::core::Effect;
use rusd_raft::log::Append;
use rusd_raft::{Core, CoreConfig};
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::sync::Arc;

#[derive(Default)]
struct World {
    core: Option<Core>,
    disk: SharedDisk,
    status: Arc<RaftStatus>,
    incarnation: u64,
    votes_at_once: bool,
    now_ms: u64,
    in_flight: Option<Append>,
    unapplied: Vec<Apply>,
    proposals: BTreeMap<u64, Pending<ApplyResult>>,
    reads: BTreeMap<String, Pending<Result<Index, EtcdError>>>,
    transfers: Vec<Pending<Result<(), EtcdError>>>,
}

const ME: u64 = 0xa1;

fn member(name: &str) -> u64 {
    u64::from_str_radix(name, 16).unwrap()
}

/// `1 2..4` as numbers.
fn numbers(args: &[Argument]) -> Vec<u64> {
    args.iter()
        .filter_map(|arg| match arg {
            Argument::Positional(text) => Some(text),
            _ => None,
        })
        .flat_map(|text| match text.split_once("..") {
            Some((from, to)) => (from.parse().unwrap()..=to.parse().unwrap()).collect::<Vec<u64>>(),
            None => vec![text.parse().unwrap()],
        })
        .collect()
}

impl World {
    fn core(&mut self) -> &mut Core {
        self.core.as_mut().expect("started")
    }

    fn bootstrap(&mut self, voters: &str, learners: &str) {
        self.disk = SharedDisk::founded(voters.split(',').map(member).collect());
        if !learners.is_empty() {
            self.disk.lock().conf.state.learners = learners.split(',').map(member).collect();
        }
    }

    fn start(&mut self, applied: u64, priority: bool) -> Result<(), Box<dyn Error>> {
        self.incarnation += 1;
        self.in_flight = None;
        self.unapplied.clear();
        self.status = Arc::new(RaftStatus::default());
        let config = CoreConfig {
            member: MemberId(ME),
            applied: Index(applied),
            heartbeat_ms: 100,
            election_ms: 1_000,
            pre_vote: !self.votes_at_once,
            incarnation: self.incarnation,
            priority_requests: priority,
        };
        self.core = Some(Core::new(config, self.disk.tail(), self.status.clone())?);
        Ok(())
    }

    fn propose(&mut self, id: u64, bytes: usize, revoke: bool) {
        let put = PutRequest {
            value: Bytes::from(vec![0; bytes]),
            ..Default::default()
        };
        let request = if revoke {
            let lease_revoke = Some(LeaseRevokeRequest { id: 1 });
            InternalRaftRequest {
                lease_revoke,
                ..Default::default()
            }
        } else {
            InternalRaftRequest {
                put: Some(put),
                ..Default::default()
            }
        };
        let (reply, pending) = Reply::channel();
        let data = request::encode(RequestId(id), request);
        self.proposals.insert(id, pending);
        self.core().propose(Propose {
            id: RequestId(id),
            data,
            reply,
        });
    }

    /// The write in flight is done.
    fn persist(&mut self) -> bool {
        let Some(append) = self.in_flight.take() else {
            return false;
        };
        self.disk.lock().write(&append);
        self.core().persisted(append.ready);
        true
    }

    /// The state machine does what it was given; conf changes stand.
    fn apply(&mut self) -> bool {
        let applied: Vec<Apply> = self.unapplied.drain(..).collect();
        for apply in &applied {
            let last = apply.entries.last().unwrap();
            if last.kind == EntryKind::ConfChange {
                self.core().conf_applied(last.index, false);
            }
            let through = last.index;
            self.core().applied(through);
        }
        for entry in applied.into_iter().flat_map(|apply| apply.entries) {
            if let Some(reply) = entry.reply {
                reply.send(Ok(rusd_proto::ApplyReply::Done));
            }
        }
        true
    }

    /// Drives the core and tells what came of it.
    fn drive(&mut self, out: &mut String) {
        let mut effects = Vec::new();
        self.core().drive(&mut effects);
        self.core().check();
        for effect in effects {
            match effect {
                Effect::Append(append) => {
                    writeln!(out, "append {}", show_append(&append)).unwrap();
                    assert!(
                        self.in_flight.replace(append).is_none(),
                        "two writes in flight"
                    );
                }
                Effect::Apply(apply) => {
                    writeln!(out, "apply {}", show_apply(&apply)).unwrap();
                    self.unapplied.push(apply);
                }
                Effect::Send(messages) => {
                    for message in messages {
                        writeln!(out, "send {}", show_message(&message)).unwrap();
                    }
                }
                Effect::RoleChanged(changed) => {
                    let leader = changed
                        .leader
                        .map_or("none".to_owned(), |leader| leader.to_string());
                    writeln!(
                        out,
                        "role {:?} in term {}, leader {leader}",
                        changed.role, changed.term
                    )
                    .unwrap();
                }
                Effect::Stopped(reply) => {
                    reply.send(());
                    writeln!(out, "stopped").unwrap();
                }
            }
        }
        self.answers(out);
    }

    fn answers(&mut self, out: &mut String) {
        let mut answered: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        self.proposals.retain(|id, pending| {
            let Some(answer) = pending.now() else {
                return true;
            };
            let text = match answer {
                Ok(Ok(_)) => "applied".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(dropped) => dropped.to_string(),
            };
            answered.entry(text).or_default().push(*id);
            false
        });
        for (text, ids) in answered {
            writeln!(out, "proposals {}: {text}", ranges(&ids)).unwrap();
        }
        self.reads.retain(|name, pending| {
            let Some(answer) = pending.now() else {
                return true;
            };
            match answer {
                Ok(Ok(index)) => writeln!(out, "read {name}: index {index}").unwrap(),
                Ok(Err(error)) => writeln!(out, "read {name}: {error}").unwrap(),
                Err(dropped) => writeln!(out, "read {name}: {dropped}").unwrap(),
            }
            false
        });
        self.transfers.retain_mut(|pending| {
            let Some(answer) = pending.now() else {
                return true;
            };
            match answer.unwrap() {
                Ok(()) => writeln!(out, "transfer: done").unwrap(),
                Err(error) => writeln!(out, "transfer: {error}").unwrap(),
            }
            false
        });
    }

    fn step(&mut self, command: &Command) -> Result<(), Box<dyn Error>> {
        let mut args = command.consume_args();
        let kind = args.next_pos().unwrap_or_default();
        let mut message = Message::default();
        message.set_msg_type(match kind {
            "append" => MessageType::MsgAppend,
            "append-response" => MessageType::MsgAppendResponse,
            "heartbeat" => MessageType::MsgHeartbeat,
            "heartbeat-response" => MessageType::MsgHeartbeatResponse,
            "pre-vote-response" => MessageType::MsgRequestPreVoteResponse,
            "vote-response" => MessageType::MsgRequestVoteResponse,
            "read-index-response" => MessageType::MsgReadIndexResp,
            "snapshot" => MessageType::MsgSnapshot,
            _ => return Err(format!("what is {kind}?").into()),
        });
        message.to = ME;
        let mut entries = Vec::new();
        while let Some((key, value)) = args.next_key() {
            match key {
                "from" => message.from = member(value),
                "term" => message.term = value.parse()?,
                "index" => message.index = value.parse()?,
                "prev-term" => message.log_term = value.parse()?,
                "commit" => message.commit = value.parse()?,
                "context" => {
                    let context: Vec<u8> = value
                        .split('/')
                        .flat_map(|part| member(part).to_be_bytes())
                        .collect();
                    if kind == "read-index-response" {
                        entries.push(Entry {
                            data: context.into(),
                            ..Entry::default()
                        });
                    } else {
                        message.context = context.into();
                    }
                }
                // index@term, or index@term+member for a change that adds one.
                "entries" => {
                    for text in value.split(',') {
                        let (index, rest) = text.split_once('@').ok_or("index@term")?;
                        let (term, added) = rest.split_once('+').unwrap_or((rest, ""));
                        let mut entry = Entry {
                            index: index.parse()?,
                            term: term.parse()?,
                            ..Entry::default()
                        };
                        if !added.is_empty() {
                            entry.set_entry_type(EntryType::EntryConfChange);
                            entry.data = founder(member(added));
                        }
                        entries.push(entry);
                    }
                }
                _ => return Err(format!("unknown {key}").into()),
            }
        }
        message.set_entries(entries.into());
        self.core().step(message);
        Ok(())
    }
}

/// `1..3 5` for 1, 2, 3, 5.
fn ranges(numbers: &[u64]) -> String {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => runs.push((*number, *number)),
        }
    }
    let runs: Vec<String> = runs
        .iter()
        .map(|(first, last)| {
            if first == last {
                first.to_string()
            } else {
                format!("{first}..{last}")
            }
        })
        .collect();
    runs.join(" ")
}

fn show_entries(entries: &[Entry]) -> String {
    let indexes: Vec<u64> = entries.iter().map(|entry| entry.index).collect();
    let term = entries.last().map_or(0, |entry| entry.term);
    format!("{}@{term}", ranges(&indexes))
}

fn show_append(append: &Append) -> String {
    let mut parts = Vec::new();
    if !append.entries.is_empty() {
        parts.push(format!("entries {}", show_entries(&append.entries)));
    }
    if let Some(vote) = append.vote {
        parts.push(format!(
            "term {} vote {:x} commit {}",
            vote.term, vote.vote, vote.commit
        ));
    }
    if let Some(conf) = &append.conf {
        let mut voters: Vec<String> = conf
            .state
            .voters
            .iter()
            .map(|id| format!("{id:x}"))
            .collect();
        voters.sort();
        parts.push(format!("voters {} as of {}", voters.join(","), conf.index));
    }
    if let Some(truncated) = append.truncate {
        parts.push(format!(
            "truncate through {}@{}",
            truncated.index, truncated.term
        ));
    }
    parts.push(if append.must_sync { "sync" } else { "no sync" }.to_owned());
    parts.join(", ")
}

fn show_apply(apply: &Apply) -> String {
    let indexes: Vec<u64> = apply.entries.iter().map(|entry| entry.index.0).collect();
    let callers = apply
        .entries
        .iter()
        .filter(|entry| entry.reply.is_some())
        .count();
    let last = apply.entries.last().unwrap();
    let conf = if last.kind == EntryKind::ConfChange {
        ", a conf change at its end"
    } else {
        ""
    };
    format!(
        "{}@{}, {callers} callers{conf}",
        ranges(&indexes),
        last.term
    )
}

fn show_message(message: &Message) -> String {
    let entries = if message.entries.is_empty() {
        String::new()
    } else if message.get_msg_type() == MessageType::MsgPropose {
        format!(", {} entries", message.entries.len())
    } else if message.get_msg_type() == MessageType::MsgReadIndex {
        ", context".to_owned()
    } else {
        format!(", entries {}", show_entries(&message.entries))
    };
    let context = if message.context.is_empty() {
        ""
    } else {
        ", context"
    };
    let reject = if message.reject { ", rejected" } else { "" };
    format!(
        "{:?} to {:x}: term {}, index {}, commit {}{entries}{context}{reject}",
        message.get_msg_type(),
        message.to,
        message.term,
        message.index,
        message.commit
    )
}

impl World {
    /// An input of the core.
    fn input(&mut self, command: &Command) -> Result<(), Box<dyn Error>> {
        let mut args = command.consume_args();
        match command.name.as_str() {
            // A new cluster, with this member a1.
            "start" => {
                let voters = args.take_key("voters").unwrap_or("a1");
                let learners = args.take_key("learners").unwrap_or("");
                let priority = args.take_key("priority").is_some();
                self.votes_at_once = args.take_key("pre-vote") == Some("false");
                self.bootstrap(voters, learners);
                self.start(0, priority)?;
            }
            // The process comes back to what its disk held; what was in flight is lost.
            "restart" => {
                let applied = args.take_key("applied").unwrap_or("0").parse()?;
                if let Some(commit) = args.take_key("commit") {
                    self.disk.lock().vote.commit = commit.parse()?;
                }
                self.start(applied, false)?;
            }
            "propose" => {
                let bytes = args.take_key("bytes").map_or(Ok(0), str::parse)?;
                let revoke = args.take_key("revoke").is_some();
                for id in numbers(&command.args) {
                    self.propose(id, bytes, revoke);
                }
            }
            "read" => {
                for name in std::iter::from_fn(|| args.next_pos()) {
                    let (reply, pending) = Reply::channel();
                    self.reads.insert(name.to_owned(), pending);
                    self.core().read_index(ReadIndex { reply });
                }
            }
            "persisted" => {
                assert!(self.persist(), "nothing in flight");
            }
            "applied" => {
                let through = Index(args.next_pos().unwrap().parse()?);
                self.unapplied
                    .retain(|apply| apply.entries.last().unwrap().index > through);
                self.core().applied(through);
            }
            "conf-applied" => {
                let index = Index(args.next_pos().unwrap().parse()?);
                let rejected = args.next_pos() == Some("rejected");
                self.core().conf_applied(index, rejected);
            }
            "engine-persisted" => {
                let applied = Index(args.next_pos().unwrap().parse()?);
                let checkpoint = args.take_key("checkpoint").map(str::parse).transpose()?;
                self.core().engine_persisted(EnginePersisted {
                    applied,
                    checkpoint: checkpoint.map(Index),
                });
            }
            "transfer" => {
                let target = MemberId(member(args.next_pos().unwrap()));
                let (reply, pending) = Reply::channel();
                self.transfers.push(pending);
                self.core()
                    .transfer_leader(TransferLeader { target, reply });
            }
            "step" => self.step(command)?,
            "stop" => self.core().stop(Reply::ignored()),
            name => return Err(format!("unknown command {name}").into()),
        }
        Ok(())
    }

    fn show_status(&mut self) -> String {
        let reads = if self.status.reads_are_local() {
            "local"
        } else {
            "not local"
        };
        let leader = self.status.leader();
        format!(
            "term {}, leader {}, committed {}, applied {}, reads are {reads}, {} entries in memory\n",
            self.status.term(),
            leader.map_or("none".to_owned(), |leader| leader.to_string()),
            self.status.committed(),
            self.status.applied(),
            self.core().in_memory()
        )
    }
}

impl Runner for World {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let mut out = String::new();
        match command.name.as_str() {
            // Ticks of 100 ms, for so many milliseconds.
            "elapse" => {
                let ms: u64 = command.consume_args().next_pos().unwrap().parse()?;
                for _ in 0..ms / 100 {
                    self.now_ms += 100;
                    let now_ms = self.now_ms;
                    self.core().tick(now_ms);
                    self.drive(&mut out);
                }
            }
            // The disk and the state machine do all they are given, until nothing is left to do.
            "settle" => {
                self.drive(&mut out);
                while self.in_flight.is_some() || !self.unapplied.is_empty() {
                    self.persist();
                    self.apply();
                    self.drive(&mut out);
                }
            }
            "status" => out = self.show_status(),
            _ => {
                self.input(command)?;
                self.drive(&mut out);
            }
        }
        Ok(out)
    }
}

rusd_kit::run_dir!("tests/scripts", World::default(), [
    bootstrap
    proposals_share_a_write
    persistence_is_asynchronous
    pre_vote
    a_conf_change_pauses_applying
    apply_is_withheld_without_credit
    g_11_v_09_too_many_requests
    g_13_timeouts
    kv_r14_read_index
    restart
    stop
    three_members
    truncation
    uncommitted_log_and_transfer
]);
