//! Where a test may end the process: before every change of a file or a directory that is made here.
//!
//! A test says how many points are passed; the next one fails, and so does every one after it, as nothing more is done
//! by a process that was killed. What is on the disk then is what a kill at that point leaves. Outside of unit tests
//! all of this is nothing.

#[cfg(not(test))]
#[inline]
pub(super) fn point() -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub(super) use counted::point;

#[cfg(test)]
pub(super) mod counted {
    use std::cell::Cell;
    use std::io;

    thread_local! {
        static LEFT: Cell<Option<u64>> = const { Cell::new(None) };
    }

    pub(crate) fn point() -> io::Result<()> {
        match LEFT.get() {
            Some(0) => Err(io::Error::other("the process was killed")),
            Some(left) => {
                LEFT.set(Some(left - 1));
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Runs `run` and kills it at its point `at`. True if it got to the end before.
    pub(crate) fn survives<T, E>(at: u64, run: impl FnOnce() -> Result<T, E>) -> bool {
        LEFT.set(Some(at));
        let result = run();
        LEFT.set(None);
        result.is_ok()
    }
}
