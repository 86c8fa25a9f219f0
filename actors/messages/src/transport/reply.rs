//! The answer to a message: sent once, or known to be lost.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use thiserror::Error;
use tokio::sync::oneshot;

/// The actor dropped the message without answering it: it is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the request was dropped before it was answered")]
pub struct Dropped;

/// Where an answer goes. Dropping it unanswered gives the caller [`Dropped`].
#[derive(Debug)]
pub struct Reply<T>(Option<oneshot::Sender<T>>);

impl<T> Reply<T> {
    /// A reply and the future that resolves to it.
    pub fn channel() -> (Self, Pending<T>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Some(sender)), Pending(receiver))
    }

    /// For a message whose answer nobody waits for.
    pub fn ignored() -> Self {
        Self(None)
    }

    /// Answers. A caller that has gone away (cancelled its call) is not an error.
    pub fn send(self, answer: T) {
        if let Some(sender) = self.0 {
            let _caller_gone = sender.send(answer);
        }
    }

    /// Whether somebody still waits.
    pub fn is_wanted(&self) -> bool {
        self.0.as_ref().is_some_and(|sender| !sender.is_closed())
    }
}

/// The future side of a [`Reply`].
#[derive(Debug)]
pub struct Pending<T>(oneshot::Receiver<T>);

impl<T> Pending<T> {
    /// The answer, if it is there already.
    pub fn now(&mut self) -> Option<Result<T, Dropped>> {
        match self.0.try_recv() {
            Ok(answer) => Some(Ok(answer)),
            Err(oneshot::error::TryRecvError::Closed) => Some(Err(Dropped)),
            Err(oneshot::error::TryRecvError::Empty) => None,
        }
    }

    /// Blocks the thread for the answer. Not for use inside a runtime.
    pub fn wait(self) -> Result<T, Dropped> {
        self.0.blocking_recv().map_err(|_| Dropped)
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T, Dropped>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(cx)
            .map(|answer| answer.map_err(|_| Dropped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_reply_is_an_error_not_a_hang() {
        let (reply, mut pending) = Reply::<u32>::channel();
        assert_eq!(pending.now(), None);
        drop(reply);
        assert_eq!(pending.now(), Some(Err(Dropped)));
    }

    #[test]
    fn a_reply_knows_when_its_caller_left() {
        let (reply, pending) = Reply::<u32>::channel();
        assert!(reply.is_wanted());
        drop(pending);
        assert!(!reply.is_wanted());
        assert!(!Reply::<u32>::ignored().is_wanted());
    }
}
