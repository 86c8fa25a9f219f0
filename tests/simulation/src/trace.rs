//! What happened, as a running hash, and as text for whoever wants to read it.

use std::fmt::Arguments;

/// The hash of all lines so far (FNV-1a), with the lines themselves on standard output if they are wanted.
pub struct Trace {
    hash: u64,
    lines: u64,
    prints: bool,
}

impl Trace {
    /// Nothing has happened yet.
    pub fn new(prints: bool) -> Self {
        Self {
            hash: 0xcbf2_9ce4_8422_2325,
            lines: 0,
            prints,
        }
    }

    /// Notes a line.
    pub fn line(&mut self, now_us: u64, text: Arguments<'_>) {
        let text = format!("{:>9}.{:03} {text}", now_us / 1_000, now_us % 1_000);
        for byte in text.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        self.lines += 1;
        if self.prints {
            println!("{text}");
        }
    }

    /// The hash of everything so far, and how many lines that was.
    pub fn hash(&self) -> (u64, u64) {
        (self.hash, self.lines)
    }
}
