//! Renewals whose answer depends on an entry of the log that is not applied yet: the lease is expired and on its way
//! out, or a checkpoint has to be taken back first.

use rusd_messages::{LeaseId, Reply};
use rusd_proto::EtcdError;
use std::collections::HashMap;

/// Renewals that may wait at a time; beyond them `too many requests`.
const WAITING_MAX: usize = 16_384;

/// Where the answer to a renewal goes: the granted time in seconds, or 0 for a lease that is gone.
pub(crate) type Answer = Reply<Result<i64, EtcdError>>;

/// The renewals that wait, by lease.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    answers: HashMap<LeaseId, Vec<Answer>>,
    count: usize,
}

impl Waiting {
    /// Lets a renewal wait, or refuses it at once.
    pub(crate) fn wait(&mut self, id: LeaseId, answer: Answer) {
        if self.count >= WAITING_MAX {
            answer.send(Err(EtcdError::TooManyRequests));
            return;
        }
        self.count += 1;
        self.answers.entry(id).or_default().push(answer);
    }

    /// Answers all renewals of a lease.
    pub(crate) fn answer(&mut self, id: LeaseId, ttl_s: i64) {
        if self.answers.is_empty() {
            return;
        }
        for answer in self.answers.remove(&id).unwrap_or_default() {
            self.count -= 1;
            answer.send(Ok(ttl_s));
        }
    }

    /// This member does not lead any more: another one counts the leases.
    pub(crate) fn not_primary(&mut self) {
        self.count = 0;
        for answer in self.answers.drain().flat_map(|(_, answers)| answers) {
            answer.send(Err(EtcdError::NotPrimary));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewals_are_answered_with_their_lease_and_bounded() {
        let mut waiting = Waiting::default();
        let mut ask = |id| {
            let (reply, pending) = Reply::channel();
            waiting.wait(LeaseId(id), reply);
            pending
        };
        let (mut first, mut second) = (ask(1), ask(2));
        let mut rest: Vec<_> = (2..WAITING_MAX).map(|_| ask(2)).collect();
        assert_eq!(ask(3).now(), Some(Ok(Err(EtcdError::TooManyRequests))));
        waiting.answer(LeaseId(1), 0);
        assert_eq!(first.now(), Some(Ok(Ok(0))));
        assert_eq!(second.now(), None);
        waiting.not_primary();
        assert_eq!(second.now(), Some(Ok(Err(EtcdError::NotPrimary))));
        assert!(rest.iter_mut().all(|renewal| renewal.now().is_some()));
    }
}
