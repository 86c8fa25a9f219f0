//! A flush that ends when the disk fails.
//!
//! sled writes its buffers on threads of its own. When one of those writes
//! fails it notes the error for everybody, but on one of two paths it does not
//! wake the flush that waits for that buffer, which then waits for ever. Any
//! later flush finds the note, returns at once and wakes the first. So one
//! thread flushes and another looks for the note now and then.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use sled::{Config, Db};

/// How often to look. A flush that works rarely takes as long.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Makes everything written so far reach the file. `config` is what `db` was opened with.
pub fn flush(db: &Db, config: &Config) -> sled::Result<()> {
    thread::scope(|scope| {
        let (flushing, ended) = mpsc::channel::<()>();
        scope.spawn(move || {
            while ended.recv_timeout(LOOK_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                if config.global_error().is_err() {
                    // It fails as well; what counts is whom it wakes.
                    let _same_error = db.flush();
                }
            }
        });
        let flushed = db.flush();
        drop(flushing);
        flushed.map(drop)
    })
}
