//! What the watch hub wants to be told. Writers: the hub (streams, watchers that want previous records) and the state
//! machine (the published revision); each reads what the other writes.
//!
//! A message to a hub without streams would wake its thread for nothing, after every batch of writes. So the state
//! machine asks here first; and as the hub then falls behind, it asks here too, when a stream opens:
//!
//! ```text
//!   state machine                             hub, as its first stream opens
//!     publishes a view, and its revision        says that there is a stream
//!     looks whether there are streams           looks which revision is published
//! ```
//!
//! Each says its part before it looks at the other's, all in one order (`SeqCst`), so at least one of them sees the
//! other's: a revision is told, or the hub knew of it before the stream opened, or both, which does no harm.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

/// One for a hub and its state machine.
#[derive(Debug, Default)]
pub struct WatchDemand {
    streams: AtomicUsize,
    previous: AtomicUsize,
    published: AtomicI64,
}

impl WatchDemand {
    /// State machine: this revision can be read now. Says whether the hub is to be told of it.
    pub fn published(&self, revision: i64) -> bool {
        self.published.store(revision, Ordering::SeqCst);
        self.streams.load(Ordering::SeqCst) > 0
    }

    /// Hub: its first stream opens, and is counted until [`set`](Self::set) counts again. Says which revision was
    /// published last, for the hub may not have been told.
    pub fn first_stream(&self) -> i64 {
        self.streams.store(1, Ordering::SeqCst);
        self.published.load(Ordering::SeqCst)
    }

    /// Hub: how many streams there are, and how many watchers want previous records. Never the step from no stream to
    /// one, which is where the order counts.
    pub fn set(&self, streams: usize, previous: usize) {
        self.previous.store(previous, Ordering::Release);
        self.streams.store(streams, Ordering::Release);
    }

    /// State machine: whether anybody is there to be told of events. It may change until they are
    /// [`published`](Self::published).
    pub fn events(&self) -> bool {
        self.streams.load(Ordering::Acquire) > 0
    }

    /// State machine: whether events should come with the records they replaced.
    pub fn previous(&self) -> bool {
        self.previous.load(Ordering::Acquire) > 0
    }
}
