//! Linearizable reads: many share one ReadIndex round.
//!
//! A round confirms that the leader still leads, and yields the commit index of that moment. Reads that come
//! while one is under way wait for the next: the running one may have taken its index before they came. The
//! context of a round is unique by member, incarnation and counter, so that no answer is taken for another's.

use crate::limits;
use rusd_messages::{Index, MemberId, Reply};
use rusd_proto::EtcdError;

type ReadReply = Reply<Result<Index, EtcdError>>;

struct Waiting {
    reply: ReadReply,
    since_ms: u64,
}

struct Round {
    context: Vec<u8>,
    sent_ms: u64,
    leader: MemberId,
    waiting: Vec<Waiting>,
}

/// See the module.
pub(super) struct Reads {
    member: MemberId,
    incarnation: u64,
    rounds: u64,
    next: Vec<Waiting>,
    round: Option<Round>,
    slow_rounds: u64,
    failed_rounds: u64,
}

impl Reads {
    pub(super) fn new(member: MemberId, incarnation: u64) -> Self {
        Self {
            member,
            incarnation,
            rounds: 0,
            next: Vec::new(),
            round: None,
            slow_rounds: 0,
            failed_rounds: 0,
        }
    }

    /// Rounds repeated because no answer came, since the start.
    pub(super) fn slow_rounds(&self) -> u64 {
        self.slow_rounds
    }

    /// Rounds ended by a change of leader or a timeout, since the start.
    pub(super) fn failed_rounds(&self) -> u64 {
        self.failed_rounds
    }

    /// Lets a read wait for the next round.
    pub(super) fn add(&mut self, reply: ReadReply, now_ms: u64) {
        let waiting = self.next.len() + self.round.as_ref().map_or(0, |round| round.waiting.len());
        if waiting >= limits::READS_WAITING_MAX {
            reply.send(Err(EtcdError::TooManyRequests));
            return;
        }
        self.next.push(Waiting {
            reply,
            since_ms: now_ms,
        });
    }

    /// The context to send to the leader now, if a round is due: none is under way and somebody waits, or the
    /// running one got no answer for a while.
    pub(super) fn due(&mut self, leader: MemberId, now_ms: u64) -> Option<Vec<u8>> {
        if let Some(round) = &mut self.round {
            if now_ms < round.sent_ms + limits::READ_INDEX_RETRY_MS {
                return None;
            }
            round.sent_ms = now_ms;
            self.slow_rounds += 1;
            return Some(round.context.clone());
        }
        if self.next.is_empty() {
            return None;
        }
        self.rounds += 1;
        let context: Vec<u8> = [self.member.0, self.incarnation, self.rounds]
            .iter()
            .flat_map(|part| part.to_be_bytes())
            .collect();
        let waiting = std::mem::take(&mut self.next);
        self.round = Some(Round {
            context: context.clone(),
            sent_ms: now_ms,
            leader,
            waiting,
        });
        Some(context)
    }

    /// Whether anybody waits.
    pub(super) fn any(&self) -> bool {
        self.round.is_some() || !self.next.is_empty()
    }

    /// A round has been confirmed.
    pub(super) fn confirmed(&mut self, context: &[u8], index: Index) {
        if let Some(round) = self.round.take_if(|round| round.context == context) {
            for waiting in round.waiting {
                waiting.reply.send(Ok(index));
            }
        }
    }

    /// Another member leads now: what was asked of the former leader will not be answered (KV-R14).
    pub(super) fn leader_changed(&mut self, leader: MemberId) {
        if let Some(round) = self.round.take_if(|round| round.leader != leader) {
            self.failed_rounds += 1;
            for waiting in round.waiting {
                waiting.reply.send(Err(EtcdError::LeaderChanged));
            }
        }
    }

    /// Fails those that have waited since before `before_ms`.
    pub(super) fn expire(&mut self, before_ms: u64) {
        let mut expired = false;
        let mut fail_old = |all: &mut Vec<Waiting>| {
            for waiting in all.extract_if(.., |waiting| waiting.since_ms < before_ms) {
                expired = true;
                waiting.reply.send(Err(EtcdError::Timeout));
            }
        };
        fail_old(&mut self.next);
        if let Some(round) = &mut self.round {
            fail_old(&mut round.waiting);
        }
        self.round.take_if(|round| round.waiting.is_empty());
        if expired {
            self.failed_rounds += 1;
        }
    }

    /// See [`Core::check`](super::Core::check).
    pub(super) fn check(&self) {
        let in_round = self.round.as_ref().map_or(0, |round| round.waiting.len());
        assert!(self.round.is_none() || in_round > 0, "a round for nobody");
        assert!(in_round + self.next.len() <= limits::READS_WAITING_MAX);
    }

    /// Fails all of them.
    pub(super) fn fail_all(&mut self, error: &EtcdError) {
        let running = self
            .round
            .take()
            .map(|round| round.waiting)
            .unwrap_or_default();
        for waiting in running.into_iter().chain(self.next.drain(..)) {
            waiting.reply.send(Err(error.clone()));
        }
    }
}
