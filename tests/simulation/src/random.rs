//! The only source of chance: everything is drawn from one generator, so that a seed says it all.

use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};
use std::ops::Range;

/// Nothing is slower than this, unless it always is: everything comes to rest in the end.
const DELAY_US_MAX: u64 = 5_000_000;

/// See the module.
pub struct Random(SmallRng);

impl Random {
    /// A generator that draws the same for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(SmallRng::seed_from_u64(seed))
    }

    /// A number of the range, which is not empty.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        self.0.random_range(range)
    }

    /// As [`within`](Self::within), for lengths.
    pub fn size(&mut self, range: Range<usize>) -> usize {
        self.0.random_range(range)
    }

    /// True so many times in a hundred.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.within(0..100) < percent
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.size(0..of.len())]
    }

    /// Bytes to seed another generator with.
    pub fn seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.0.fill_bytes(&mut seed);
        seed
    }

    /// A delay in microseconds: mostly below `usual_us`, at times up to fifty times as long.
    pub fn delay_us(&mut self, usual_us: u64) -> u64 {
        let most_us = if self.percent(3) {
            (usual_us * 50).min(DELAY_US_MAX.max(usual_us))
        } else {
            usual_us
        };
        self.within(0..most_us.max(1))
    }
}
