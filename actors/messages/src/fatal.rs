//! How any thread ends the process.
//!
//! A failed disk write, or a state that cannot be, ends the process: nothing limps on half dead, and a restart recovers
//! from what is on disk. It is a panic, so that no caller has to carry it upwards and a test can see it; its payload
//! says what happened in an operator's words, and the process-wide panic hook knows by it that this is no bug.

use std::fmt::Display;

/// Why the process ends: the payload of the panic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fatal {
    /// What was being done.
    pub doing: &'static str,
    /// What went wrong, with the place and what to do about it.
    pub error: String,
}

/// Ends the process with one line in the log and exit code 1: what was being done, and the error.
pub fn fatal(doing: &'static str, error: &dyn Display) -> ! {
    std::panic::panic_any(Fatal {
        doing,
        error: error.to_string(),
    })
}
