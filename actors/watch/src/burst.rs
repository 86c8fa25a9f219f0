//! How long committed revisions wait for more, so that what is committed together is sent together.

/// Messages that may be handled while revisions wait, in a burst that does not end.
const MESSAGES_MAX: usize = 64;

/// Revisions wait while the mailbox has messages, but not longer than [`MESSAGES_MAX`] of them.
#[derive(Debug, Default)]
pub(crate) struct Burst {
    /// Messages handled since revisions began to wait.
    messages: usize,
}

impl Burst {
    /// A message has been handled, and revisions are pending or not. Whether they have waited long enough.
    pub(crate) fn message(&mut self, pending: bool) -> bool {
        self.messages = if pending { self.messages + 1 } else { 0 };
        self.messages >= MESSAGES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_that_does_not_end_is_sent_all_the_same() {
        let mut burst = Burst::default();
        assert!((1..MESSAGES_MAX).all(|_| !burst.message(true)));
        assert!(burst.message(true));
        assert!(!burst.message(false));
        assert!(!burst.message(true));
    }
}
