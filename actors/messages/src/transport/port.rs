//! The only way to reach an actor: named, bounded and counted.
//!
//! actix bounds nothing that we could rely on (`send().await` does not wait, `do_send` does not refuse, and a
//! dropped `send` future takes its message back), so a port always uses `do_send` and keeps its own count:
//! up at [`Port::tell`], down when the receiver opens the [`Delivery`].

use crate::metrics;
use actix::{Actor, Addr, Handler, Recipient};
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use thiserror::Error;

static DEPTH: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    metrics::gauges(
        "rusd_port_depth",
        "Messages queued at an actor's port.",
        &["port"],
    )
});

static REFUSALS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::counters(
        "rusd_port_refusals_total",
        "Messages refused at an actor's port because it was full.",
        &["port"],
    )
});

/// Why a message was not taken; it comes back to its sender.
#[derive(Error)]
pub enum Refused<M> {
    /// The port is at its bound.
    #[error("the queue is full")]
    Full(M),
    /// The actor has stopped.
    #[error("the actor has stopped")]
    Closed(M),
}

impl<M> fmt::Debug for Refused<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full",
            Self::Closed(_) => "Closed",
        })
    }
}

#[derive(Debug)]
struct Limit {
    bound: usize,
    depth: AtomicUsize,
    depth_gauge: IntGauge,
    refusals: IntCounter,
}

/// A message on its way. It counts against the port's bound until it is opened or dropped.
#[derive(Debug)]
pub struct Delivery<M> {
    message: M,
    permit: Permit,
}

#[derive(Debug)]
struct Permit(Arc<Limit>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.depth.fetch_sub(1, Ordering::Relaxed);
        self.0.depth_gauge.dec();
    }
}

impl<M> Delivery<M> {
    /// Takes the message, freeing its place in the queue.
    pub fn open(self) -> M {
        drop(self.permit);
        self.message
    }
}

impl<M: Send + 'static> actix::Message for Delivery<M> {
    type Result = ();
}

enum Sink<M: Send + 'static> {
    Actor(Recipient<Delivery<M>>),
    Queue(flume::Sender<Delivery<M>>),
}

impl<M: Send + 'static> Clone for Sink<M> {
    fn clone(&self) -> Self {
        match self {
            Self::Actor(recipient) => Self::Actor(recipient.clone()),
            Self::Queue(sender) => Self::Queue(sender.clone()),
        }
    }
}

/// The way to one actor for one kind of message.
pub struct Port<M: Send + 'static> {
    sink: Sink<M>,
    limit: Arc<Limit>,
}

impl<M: Send + 'static> Clone for Port<M> {
    fn clone(&self) -> Self {
        Self {
            sink: self.sink.clone(),
            limit: self.limit.clone(),
        }
    }
}

impl<M: Send + 'static> fmt::Debug for Port<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl<M: Send + 'static> Port<M> {
    /// A port of the actor at `address`. `name` labels its gauge and its refusal counter.
    pub fn new<A>(name: &'static str, bound: usize, address: &Addr<A>) -> Self
    where
        A: Actor<Context = actix::Context<A>> + Handler<Delivery<M>>,
    {
        Self::over(name, bound, Sink::Actor(address.clone().recipient()))
    }

    /// A port of a plain thread that reads a queue.
    pub fn to_thread(name: &'static str, bound: usize) -> (Self, flume::Receiver<Delivery<M>>) {
        // The limit below is the bound; the queue itself must never block its sender.
        let (sender, receiver) = flume::unbounded();
        (Self::over(name, bound, Sink::Queue(sender)), receiver)
    }

    fn over(name: &'static str, bound: usize, sink: Sink<M>) -> Self {
        let limit = Limit {
            bound,
            depth: AtomicUsize::new(0),
            depth_gauge: DEPTH.with_label_values(&[name]),
            refusals: REFUSALS.with_label_values(&[name]),
        };
        Self {
            sink,
            limit: Arc::new(limit),
        }
    }

    /// Messages told and not yet opened.
    pub fn depth(&self) -> usize {
        self.limit.depth.load(Ordering::Relaxed)
    }

    /// Tells, unless the port is full.
    pub fn tell(&self, message: M) -> Result<(), Refused<M>> {
        if self.limit.depth.fetch_add(1, Ordering::Relaxed) >= self.limit.bound {
            self.limit.depth.fetch_sub(1, Ordering::Relaxed);
            self.limit.refusals.inc();
            return Err(Refused::Full(message));
        }
        self.pass(message)
    }

    /// Tells even past the bound: for messages that something else bounds (the credits of Apply, one
    /// outstanding request at a time). Only a stopped actor refuses.
    pub fn deliver(&self, message: M) -> Result<(), Refused<M>> {
        self.limit.depth.fetch_add(1, Ordering::Relaxed);
        self.pass(message)
    }

    fn pass(&self, message: M) -> Result<(), Refused<M>> {
        self.limit.depth_gauge.inc();
        let delivery = Delivery {
            message,
            permit: Permit(self.limit.clone()),
        };
        match &self.sink {
            Sink::Actor(recipient) if recipient.connected() => {
                recipient.do_send(delivery);
                Ok(())
            }
            Sink::Actor(_) => Err(Refused::Closed(delivery.open())),
            Sink::Queue(sender) => sender
                .send(delivery)
                .map_err(|flume::SendError(delivery)| Refused::Closed(delivery.open())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_port_refuses_and_gives_the_message_back() {
        let (port, probe) = Port::probe(2);
        assert!(port.tell(1).is_ok());
        assert!(port.tell(2).is_ok());
        assert!(matches!(port.tell(3), Err(Refused::Full(3))));
        assert_eq!(probe.next(), Some(1));
        assert!(port.tell(4).is_ok());
        assert_eq!(probe.all(), [2, 4]);
        assert_eq!(port.depth(), 0);
    }

    #[test]
    fn delivered_messages_pass_the_bound_but_are_counted() {
        let (port, probe) = Port::probe(1);
        for i in 0..3 {
            assert!(port.deliver(i).is_ok());
        }
        assert_eq!(port.depth(), 3);
        assert!(matches!(port.tell(9), Err(Refused::Full(9))));
        drop(probe);
        assert!(matches!(port.deliver(9), Err(Refused::Closed(9))));
    }
}
