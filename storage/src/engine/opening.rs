//! Panics that happen while an engine opens a directory.
//!
//! Everywhere else a panic ends the process. While an engine opens, a damaged
//! file may make it panic, on this thread or on one of its own, and that is an
//! answer: the data has to be rebuilt. A process-wide panic hook asks
//! [`opening`] before it aborts.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many engines are opening their directory.
static OPENING: AtomicUsize = AtomicUsize::new(0);

struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {
        OPENING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whether an engine is opening a directory right now, so that a panic on any
/// thread is to be left to it.
pub fn opening() -> bool {
    OPENING.load(Ordering::SeqCst) > 0
}

/// Runs what opens an engine, or reads through one for the first time; a panic
/// becomes its message.
pub fn caught<T>(open: impl FnOnce() -> T) -> Result<T, String> {
    OPENING.fetch_add(1, Ordering::SeqCst);
    let _guard = Guard;
    catch_unwind(AssertUnwindSafe(open)).map_err(|panic| message(&*panic))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    format!(
        "it panicked while it opened: {}",
        text.unwrap_or_else(|| "no message".to_owned())
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_while_opening_is_an_answer() {
        let error = caught(|| {
            assert!(opening());
            panic!("segment {} is odd", 7)
        });
        let error: Result<(), String> = error;
        assert!(error.unwrap_err().contains("segment 7 is odd"));
        assert_eq!(caught(|| 1), Ok(1));
    }
}
