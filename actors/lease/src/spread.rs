//! Keeps the deadlines that a new leader sets from falling together.
//!
//! A new leader gives every lease its full time again, so leases of one TTL would all end at one moment, and if
//! their owners are gone too, be revoked in one rush. Deadlines are therefore pushed back, never forward, until
//! no stretch of time holds more than a burst and a steady rate after it (the generic cell rate algorithm).

/// Deadlines that may fall together.
const BURST: u64 = 1_000;

/// Deadlines a second beyond the burst. Well below what the log takes, so that writes go on undisturbed: 100,000
/// leases of one TTL end within twenty seconds of it.
const PER_SECOND: u64 = 5_000;

const INTERVAL_US: u64 = 1_000_000 / PER_SECOND;

/// Spreads deadlines given in ascending order.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    /// When the next deadline would be due if they came at the steady rate.
    steady_us: u64,
}

impl Spread {
    /// The deadline to use instead of `deadline_ms`: the same or a later one.
    pub(crate) fn place(&mut self, deadline_ms: u64) -> u64 {
        let wanted_us = deadline_ms.saturating_mul(1_000);
        self.steady_us = self.steady_us.max(wanted_us).saturating_add(INTERVAL_US);
        let earliest_us = self.steady_us.saturating_sub(BURST * INTERVAL_US);
        deadline_ms.max(earliest_us / 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l_10_a_burst_stays_and_the_rest_follows_at_the_steady_rate() {
        let mut spread = Spread::default();
        let placed: Vec<u64> = (0..100_000).map(|_| spread.place(60_000)).collect();
        assert!(placed[..1_000].iter().all(|at| *at == 60_000));
        assert!(placed.is_sorted());
        for start in (60_000..80_000).step_by(1_000) {
            let end = start + 1_000;
            let within = placed
                .iter()
                .filter(|at| (start..end).contains(*at))
                .count();
            assert!(within as u64 <= BURST + PER_SECOND, "{within} from {start}");
        }
        assert!(placed[99_999] <= 60_000 + 20_000);
    }

    #[test]
    fn l_10_deadlines_apart_from_each_other_stay_where_they_are() {
        let mut spread = Spread::default();
        for deadline_ms in (0..100_000).step_by(10) {
            assert_eq!(spread.place(deadline_ms), deadline_ms);
        }
    }
}
