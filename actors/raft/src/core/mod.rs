//! The pure core: raft-rs, and the host's duties around it.
//!
//! Inputs are method calls; time is the number in the last tick. After any number of inputs the shell calls
//! [`Core::drive`] and performs the [`Effect`]s in their order. The core answers reply ports itself; everything
//! that touches a disk, a thread or another actor is an effect.
//!
//! # The host's duties
//!
//! For each ready of raft-rs, in this order (`drive.rs`):
//!
//! 1. *Persist*: entries enter the tail, where raft-rs reads them, and together with the vote the append batch that
//!    is collecting. One batch is in flight at a time; the next one leaves when it is answered. A ready that only
//!    moves the commit index is not written: the index is in the next batch, and is a hint anyway.
//! 2. *Send*: a leader's messages at once; anybody else's only when everything before them is persisted.
//! 3. *Apply*: committed entries queue for the state machine, which gets them in batches as its credits allow.
//! 4. *Advance*: `advance_append_async` now, `on_persist_ready` when the batch is answered (or at once if there
//!    was nothing to write), `advance_apply_to` when the state machine has answered.
//!
//! # A membership change
//!
//! ends an Apply batch and holds back everything behind it until the state machine has said whether it stands. Only
//! then does raft-rs take it, and the new configuration is written with the index it belongs to, so that a restart
//! takes each change exactly once: from the configuration, or by meeting its entry again. An engine that is behind the
//! configuration applies changes again that are part of it; Raft passes over those.
//!
//! # One voter
//!
//! It campaigns as soon as no committed membership change waits to be applied, rather than after an election timeout.
//! Proposals are held while a write is in flight, so that each batch is one message to raft-rs: nobody but the disk
//! would gain from seeing them earlier.

mod applying;
mod check;
mod config;
mod counts;
mod drive;
mod membership;
mod proposals;
mod reads;

use crate::limits;
use crate::log::{Append, LogTail, ReadyNumber, Truncated, Vote};
use applying::Applying;
use membership::Membership;
use proposals::Proposals;
use raft::eraftpb::{Message, MessageType};
use raft::{INVALID_ID, RawNode, StateRole, Storage};
use reads::Reads;
use rusd_messages::mvcc::Apply;
use rusd_messages::raft::{EnginePersisted, Propose, ReadIndex, TransferLeader};
use rusd_messages::{Index, MemberId, RaftStatus, Reply, RoleChanged, Term};
use rusd_proto::{EtcdError, RequestKind};
use std::sync::Arc;

pub use config::{CoreConfig, StartError};
pub use counts::Counts;

/// What the shell is to do.
#[derive(Debug)]
pub enum Effect {
    /// Write this, then call [`Core::persisted`]. No other batch comes before that.
    Append(Append),
    /// Send these to the members they name.
    Send(Vec<Message>),
    /// Hand this to the state machine.
    Apply(Apply),
    /// Tell those who care.
    RoleChanged(RoleChanged),
    /// Everything is written: close the log, then answer.
    Stopped(Reply<()>),
}

/// What raft-rs showed in the last ready, to see whether there is anything besides committed entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shown {
    term: Term,
    vote: Option<MemberId>,
    role: StateRole,
    leader: Option<MemberId>,
}

struct Transfer {
    target: MemberId,
    since_ms: u64,
    reply: Reply<Result<(), EtcdError>>,
}

/// See the module.
pub struct Core {
    config: CoreConfig,
    node: RawNode<LogTail>,
    status: Arc<RaftStatus>,
    now_ms: u64,
    next_tick_ms: u64,
    proposals: Proposals,
    reads: Reads,
    applying: Applying,
    membership: Membership,
    /// The ready that the write in flight answers.
    in_flight: Option<ReadyNumber>,
    collecting: Append,
    newest_ready: ReadyNumber,
    /// Everything through this ready is persisted.
    persisted_through: ReadyNumber,
    /// Messages that wait until everything through their ready is persisted.
    after_persist: Vec<(ReadyNumber, Vec<Message>)>,
    vote: Vote,
    /// The vote that the last append batch carried.
    vote_given: Vote,
    truncate: Option<Truncated>,
    truncate_since_ms: u64,
    applied: Index,
    /// Where the log ended at start: entries up to here were acknowledged by an earlier process.
    replay_through: Index,
    /// The newest index that the state machine says it has applied; ahead of `applied` only at a barrier.
    acknowledged: Index,
    shown: Shown,
    leader_elected_ms: Option<u64>,
    leader_changes: u64,
    late_heartbeats: u64,
    /// The term in which this member has applied an entry of its own as leader.
    led_term: Option<Term>,
    announced: Option<RoleChanged>,
    transfer: Option<Transfer>,
    stopping: bool,
    stopped: Option<Reply<()>>,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core")
            .field("member", &self.config.member)
            .field("shown", &self.shown)
            .field("applied", &self.applied)
            .finish_non_exhaustive()
    }
}

impl Core {
    /// A member that goes on from `tail`, which it checks against what the engine has applied.
    pub fn new(
        config: CoreConfig,
        mut tail: LogTail,
        status: Arc<RaftStatus>,
    ) -> Result<Self, StartError> {
        check_start(config.applied, &tail)?;
        let applied = config.applied;
        let last = tail.last();
        // The commit index is written lazily; what the engine has applied was committed.
        tail.set_commit(tail.vote().commit.max(applied.0));
        let vote = tail.vote();
        let changes = membership::changes_beyond_conf(&tail)?;
        let mut membership = Membership::new(config.member, tail.conf().clone());
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let mut node = RawNode::new(&config::raft_config(&config), tail, &logger)?;
        // Applied by the engine, but lost before the configuration was written.
        let (settled, ahead): (Vec<_>, Vec<_>) = changes
            .into_iter()
            .partition(|entry| entry.index <= applied.0);
        for entry in settled {
            let change = crate::conf_change::decode(&entry).ok().flatten();
            let state = change.map(|change| node.apply_conf_change(&change));
            membership.settle(Index(entry.index), state.transpose()?);
        }
        membership.note(&ahead);
        node.mut_store().serve();
        let shown = shown(&node);
        status.set_committed(Index(vote.commit));
        status.set_applied(applied);
        status.set_leadership(Term(vote.term), None);
        status.set_reads_are_local(false);
        Ok(Self {
            reads: Reads::new(config.member, config.incarnation),
            applying: Applying::new(applied),
            proposals: Proposals::default(),
            membership,
            config,
            node,
            status,
            now_ms: 0,
            next_tick_ms: 0,
            in_flight: None,
            collecting: Append::default(),
            newest_ready: ReadyNumber::default(),
            persisted_through: ReadyNumber::default(),
            after_persist: Vec::new(),
            vote,
            vote_given: vote,
            truncate: None,
            truncate_since_ms: 0,
            applied,
            replay_through: Index(last),
            acknowledged: applied,
            shown,
            leader_elected_ms: None,
            leader_changes: 0,
            late_heartbeats: 0,
            led_term: None,
            announced: None,
            transfer: None,
            stopping: false,
            stopped: None,
        })
    }

    /// Takes a proposal of this member, or answers why not.
    pub fn propose(&mut self, proposal: Propose) {
        if let Some(error) = self.refusal(&proposal) {
            proposal.reply.send(Err(error));
            return;
        }
        self.proposals.add(proposal, self.now_ms);
    }

    fn refusal(&self, proposal: &Propose) -> Option<EtcdError> {
        if self.stopping {
            return Some(EtcdError::Stopped);
        }
        let gap = self
            .node
            .raft
            .raft_log
            .committed
            .saturating_sub(self.applied.0);
        let too_many = gap > limits::APPLY_GAP_MAX && !self.has_priority(proposal, gap)
            || self.proposals.waiting() >= limits::WAITING_MAX
            || self.proposals.held_bytes() >= limits::HELD_BYTES_MAX;
        too_many.then_some(EtcdError::TooManyRequests)
    }

    fn has_priority(&self, proposal: &Propose, gap: u64) -> bool {
        self.config.priority_requests
            && gap <= limits::APPLY_GAP_PRIORITY_MAX
            && RequestKind::of(&proposal.data) == RequestKind::LeaseRevoke
    }

    /// Confirms leadership for a read: at once if nobody else can have it, else with the next round.
    pub fn read_index(&mut self, read: ReadIndex) {
        if self.stopping {
            read.reply.send(Err(EtcdError::Stopped));
        } else if self.status.reads_are_local() {
            read.reply
                .send(Ok(Index(self.node.raft.raft_log.committed)));
        } else {
            self.reads.add(read.reply, self.now_ms);
        }
    }

    /// A message of another member.
    pub fn step(&mut self, message: Message) {
        if self.stopping {
            return;
        }
        // Snapshots arrive as streams of their own, never as a message.
        if message.get_msg_type() == MessageType::MsgSnapshot {
            return;
        }
        if message.term > self.node.raft.term {
            self.status.set_reads_are_local(false);
        }
        if let Err(error) = self.node.step(message) {
            tracing::debug!(%error, "a peer's message was not taken");
        }
    }

    /// Time has come to `now_ms`: fails what has waited too long, and ticks raft-rs once an interval.
    pub fn tick(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        let before_ms = self.now_ms.saturating_sub(self.config.request_timeout_ms());
        if before_ms > 0 {
            let elected_ms = self.leader_elected_ms;
            let election_ms = self.config.election_ms;
            self.proposals.expire(before_ms, |proposed_ms| {
                timeout_error(proposed_ms, elected_ms, election_ms)
            });
            self.reads.expire(before_ms);
            if let Some(transfer) = self
                .transfer
                .take_if(|transfer| transfer.since_ms < before_ms)
            {
                transfer.reply.send(Err(EtcdError::Timeout));
            }
        }
        self.tick_raft();
    }

    fn tick_raft(&mut self) {
        let heartbeat_ms = self.config.heartbeat_ms;
        // Timers jitter: one that is a little early counts as on time.
        if self.now_ms + heartbeat_ms / 4 < self.next_tick_ms {
            return;
        }
        if self.now_ms < self.next_tick_ms + heartbeat_ms {
            self.next_tick_ms += heartbeat_ms;
        } else {
            // Missed ticks are not made up for: after a pause of the process they would only cause elections.
            self.next_tick_ms = self.now_ms + heartbeat_ms;
            if self.leads() && !self.membership.is_sole_voter() {
                self.late_heartbeats += 1;
            }
        }
        // raft-rs makes a sole voter the leader on the spot, and expects its whole log to be persisted then.
        let must_wait =
            self.membership.is_sole_voter() && !self.leads() && !self.all_entries_are_persisted();
        if !must_wait && !self.stopping {
            self.node.tick();
        }
    }

    /// The write of this ready is durable.
    pub fn persisted(&mut self, ready: ReadyNumber) {
        if self
            .in_flight
            .take_if(|in_flight| *in_flight == ready)
            .is_none()
        {
            return;
        }
        // Readies behind it with nothing to write count as persisted too.
        let through = if self.collecting.is_empty() {
            self.newest_ready
        } else {
            ready
        };
        self.persist_through(through);
        let stable = self
            .collecting
            .entries
            .first()
            .map_or(u64::MAX, |entry| entry.index - 1);
        let releasable = stable.min(self.applying.handed_through().0);
        self.node.mut_store().release(releasable);
    }

    fn persist_through(&mut self, ready: ReadyNumber) {
        self.persisted_through = ready;
        self.node.on_persist_ready(ready.0);
    }

    /// The state machine has applied everything through `through`.
    pub fn applied(&mut self, through: Index) {
        let through = through.min(self.applying.handed_through());
        self.applying.applied(through);
        self.acknowledged = self.acknowledged.max(through);
        self.advance_applied();
    }

    fn advance_applied(&mut self) {
        let through = match self.applying.barrier() {
            Some(barrier) => self.acknowledged.min(Index(barrier.0 - 1)),
            None => self.acknowledged,
        };
        if through > self.applied {
            let reported = self.applied.0 / limits::REPLAY_REPORT_ENTRIES;
            if self.applied < self.replay_through
                && through.0 / limits::REPLAY_REPORT_ENTRIES > reported
            {
                tracing::info!(
                    applied = through.0,
                    through = self.replay_through.0,
                    "replaying the log"
                );
            }
            self.applied = through;
            self.node.advance_apply_to(through.0);
        }
    }

    /// The state machine has settled the membership change at `index`.
    pub fn conf_applied(&mut self, index: Index, rejected: bool) {
        let Some(barrier) = self.applying.lift_barrier(index) else {
            return;
        };
        if index.0 <= self.membership.conf().index {
            // Applied once more after a restart, by an engine that was behind: the configuration has it already.
            self.advance_applied();
            return;
        }
        let change = barrier.change.filter(|_| !rejected);
        let state = change.and_then(|change| match self.node.apply_conf_change(&change) {
            Ok(state) => Some(state),
            Err(error) => {
                tracing::error!(%error, index = index.0, "a membership change was not possible");
                None
            }
        });
        self.membership.settle(index, state);
        self.collecting.conf = Some(Box::new(self.membership.conf().clone()));
        self.collecting.must_sync = true;
        self.collecting.ready = self.newest_ready;
        self.advance_applied();
    }

    /// The engine has made something durable: the log is truncated through what is not needed any more. A sole voter
    /// keeps what its checkpoint needs, others what a slow member may ask for.
    pub fn engine_persisted(&mut self, persisted: EnginePersisted) {
        let applied = persisted.applied.0.min(self.applied.0);
        let index = if self.membership.is_sole_voter() {
            persisted
                .checkpoint
                .map_or(applied, |checkpoint| applied.min(checkpoint.0))
        } else {
            applied.saturating_sub(limits::CATCH_UP_ENTRIES)
        };
        if index <= self.node.store().truncated().index {
            return;
        }
        match self.node.store().term(index) {
            Ok(term) => {
                let truncated = Truncated { index, term };
                self.node.mut_store().truncate(truncated);
                self.truncate_since_ms = self.now_ms;
                self.truncate = Some(truncated);
            }
            Err(error) => tracing::warn!(%error, index, "the log cannot be truncated"),
        }
    }

    /// Hands leadership to another member.
    pub fn transfer_leader(&mut self, transfer: TransferLeader) {
        let TransferLeader { target, reply } = transfer;
        if self.stopping {
            reply.send(Err(EtcdError::Stopped));
        } else if !self.leads() {
            reply.send(Err(EtcdError::NotLeader));
        } else if !self.membership.is_voter(target) {
            reply.send(Err(EtcdError::BadLeaderTransferee));
        } else if target == self.config.member {
            reply.send(Ok(()));
        } else {
            self.node.transfer_leader(target.0);
            let transfer = Transfer {
                target,
                since_ms: self.now_ms,
                reply,
            };
            if let Some(earlier) = self.transfer.replace(transfer) {
                earlier.reply.send(Err(EtcdError::Timeout));
            }
        }
    }

    /// Takes nothing more, fails what waits, and tells when everything is written.
    pub fn stop(&mut self, reply: Reply<()>) {
        self.stopping = true;
        self.stopped = Some(reply);
        self.proposals.fail_all(&EtcdError::Stopped);
        self.reads.fail_all(&EtcdError::Stopped);
        if let Some(transfer) = self.transfer.take() {
            transfer.reply.send(Err(EtcdError::Stopped));
        }
        self.status.set_reads_are_local(false);
    }

    fn all_entries_are_persisted(&self) -> bool {
        let log = &self.node.raft.raft_log;
        log.persisted == log.last_index()
    }

    fn leads(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    /// Whether this member alone decides, so that nobody waits for a sign of life from it.
    pub fn is_sole_voter(&self) -> bool {
        self.membership.is_sole_voter()
    }

    /// Entries of the log that are in memory, for tests.
    pub fn in_memory(&self) -> usize {
        self.node.store().in_memory()
    }
}

/// Whether the engine, which has applied the log through `applied`, and the log fit together.
fn check_start(applied: Index, tail: &LogTail) -> Result<(), StartError> {
    let (applied, last, truncated) = (applied.0, tail.last(), tail.truncated().index);
    if tail.conf().state.voters.is_empty() {
        return Err(StartError::NotBootstrapped);
    }
    if applied > last {
        return Err(StartError::LostEntries { applied, last });
    }
    if applied < truncated {
        return Err(StartError::StoreTooOld { applied, truncated });
    }
    Ok(())
}

fn shown(node: &RawNode<LogTail>) -> Shown {
    let raft = &node.raft;
    Shown {
        term: Term(raft.term),
        vote: member(raft.vote),
        role: raft.state,
        leader: member(raft.leader_id),
    }
}

/// A member as raft-rs names it, which has a number for none.
fn member(id: u64) -> Option<MemberId> {
    (id != INVALID_ID).then_some(MemberId(id))
}

/// The text for a proposal that was not applied in time (G-13): whether an election came in between decides.
fn timeout_error(proposed_ms: u64, elected_ms: Option<u64>, election_ms: u64) -> EtcdError {
    let in_between = elected_ms.is_some_and(|elected_ms| {
        let lost_ms = elected_ms.saturating_sub(2 * election_ms);
        proposed_ms >= lost_ms && proposed_ms < elected_ms
    });
    if in_between {
        EtcdError::TimeoutLeaderFailure
    } else {
        EtcdError::Timeout
    }
}
