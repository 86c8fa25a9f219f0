//! How a lease is renewed: in place if possible, by the lease timer otherwise.

use crate::lease::KeepAlive;
use crate::live_leases::InPlace;
use crate::metrics::counter;
use crate::{Clock, LeaseId, LiveLeases, Pending, Port, Refused, Reply};
use prometheus::IntCounter;
use rusd_proto::EtcdError;
use std::sync::{Arc, LazyLock};

/// Renewals that succeeded on the leader: counted by the lease timer and by those who renew in place.
pub static RENEWED: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "etcd_debugging_lease_renewed_total",
        "The number of renewed leases seen by the leader.",
    )
});

/// The answer to a renewal: the granted time in seconds, or 0 for a lease that does not exist (any more).
#[derive(Debug)]
pub enum Renewing {
    /// It was renewed in place, or does not exist.
    Done(i64),
    /// It comes from the lease timer.
    Asked(Pending<Result<i64, EtcdError>>),
}

/// Renews leases. Whoever asks has made sure that this member leads, and has applied all that was acknowledged.
#[derive(Clone, Debug)]
pub struct Renewer {
    live: Arc<LiveLeases>,
    clock: Clock,
    keep_alive: Port<KeepAlive>,
}

impl Renewer {
    /// Over the table that the state machine publishes, with the clock that ticks are made from, and the port of
    /// the lease timer.
    pub fn new(live: Arc<LiveLeases>, clock: Clock, keep_alive: Port<KeepAlive>) -> Self {
        Self {
            live,
            clock,
            keep_alive,
        }
    }

    /// Renews a lease. Refused if the lease timer has to be asked, and its queue is full or it has stopped.
    pub fn renew(&self, id: LeaseId) -> Result<Renewing, Refused<KeepAlive>> {
        match self.live.renew(id, self.clock.now_ms()) {
            InPlace::Renewed(ttl_s) => {
                RENEWED.inc();
                Ok(Renewing::Done(ttl_s))
            }
            InPlace::Unknown => Ok(Renewing::Done(0)),
            InPlace::Closed => {
                let (reply, pending) = Reply::channel();
                self.keep_alive.tell(KeepAlive { id, reply })?;
                Ok(Renewing::Asked(pending))
            }
        }
    }
}
