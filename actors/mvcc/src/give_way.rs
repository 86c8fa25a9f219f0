//! Compaction gives way to the engine.
//!
//! A removed record is a few bytes in a batch, yet costs the engine as much as a written one. Steps that went on while
//! the engine is behind would pile up in one batch that takes it seconds, and so hold up everything else. So a step is
//! put off while the engine has much still to write. Not for ever: an engine that writes alone keep busy would
//! never get smaller.

/// Steps put off, one after the other, before one is made all the same. At etcd's pace, a thousand records every ten
/// milliseconds, that still removes 25,000 a second: about as many as a saturated server writes.
const PUT_OFF_MAX: u32 = 3;

#[derive(Debug, Default)]
pub(crate) struct GiveWay {
    put_off: u32,
}

impl GiveWay {
    /// Whether a step is to be put off.
    pub(crate) fn puts_off(&mut self, in_the_way: bool) -> bool {
        if in_the_way && self.put_off < PUT_OFF_MAX {
            self.put_off += 1;
            true
        } else {
            self.put_off = 0;
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kv_c05_steps_wait_for_the_engine_but_not_for_ever() {
        let mut give_way = GiveWay::default();
        assert!(!give_way.puts_off(false));
        let made = (0..40).filter(|_| !give_way.puts_off(true)).count();
        assert_eq!(made, 10);
        assert!(!give_way.puts_off(false));
    }
}
