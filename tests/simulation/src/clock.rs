//! Virtual time: what is to happen, in order. It passes only from one event to the next.

use std::collections::BTreeMap;

/// Microseconds since the simulation began.
pub type Micros = u64;

/// Milliseconds as [`Micros`].
pub const fn ms(ms: u64) -> Micros {
    ms * 1_000
}

/// Events by the time at which they are due; those of one moment come in the order in which they were put in.
pub struct Clock<E> {
    now_us: Micros,
    queue: BTreeMap<(Micros, u64), E>,
    next_number: u64,
}

impl<E> Default for Clock<E> {
    fn default() -> Self {
        Self {
            now_us: 0,
            queue: BTreeMap::new(),
            next_number: 0,
        }
    }
}

impl<E> Clock<E> {
    /// The time of the event that is handled now.
    pub fn now_us(&self) -> Micros {
        self.now_us
    }

    /// Puts in an event; one of the past happens now.
    pub fn at(&mut self, at_us: Micros, event: E) {
        self.next_number += 1;
        let key = (at_us.max(self.now_us), self.next_number);
        self.queue.insert(key, event);
    }

    /// Puts in an event that happens in so many microseconds.
    pub fn after(&mut self, delay_us: Micros, event: E) {
        self.at(self.now_us + delay_us, event);
    }

    /// The next event; time moves on to it.
    pub fn pop(&mut self) -> Option<E> {
        let ((at_us, _), event) = self.queue.pop_first()?;
        self.now_us = at_us;
        Some(event)
    }
}
