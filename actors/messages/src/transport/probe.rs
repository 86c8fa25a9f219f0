//! What stands in for an actor in a test.

use super::port::{Delivery, Port};

/// The receiving end of a test's port: what an actor said, in order.
#[derive(Debug)]
pub struct Probe<M>(flume::Receiver<Delivery<M>>);

impl<M: Send + 'static> Port<M> {
    /// A port that records what arrives.
    pub fn probe(bound: usize) -> (Self, Probe<M>) {
        let (port, receiver) = Self::to_thread("probe", bound);
        (port, Probe(receiver))
    }
}

impl<M> Probe<M> {
    /// The next message, if one has arrived.
    pub fn next(&self) -> Option<M> {
        self.0.try_recv().ok().map(Delivery::open)
    }

    /// Everything that has arrived.
    pub fn all(&self) -> Vec<M> {
        std::iter::from_fn(|| self.next()).collect()
    }

    /// Blocks until a message arrives; None after `timeout` or when every port is gone.
    pub fn wait(&self, timeout: std::time::Duration) -> Option<M> {
        self.0.recv_timeout(timeout).ok().map(Delivery::open)
    }
}
