//! The thread that hashes compactions.
//!
//! A hash reads the whole history, so it has a thread of its own: nobody waits for it, and everybody waits for the
//! writer and the readers. The removal of what was compacted begins when it is done.

use super::priority;
use rusd_messages::fatal;
use rusd_storage::engine::EngineError;
use rusd_storage::{CompactionHash, StorageError};
use std::io;
use std::time::Instant;

/// The store makes one at a time.
const QUEUED_COMPACTIONS: usize = 1;

/// The sending side of the thread.
#[derive(Clone, Debug)]
pub(crate) struct CompactionHasher {
    work: flume::Sender<CompactionHash>,
}

impl CompactionHasher {
    /// Starts the thread.
    pub(crate) fn spawn() -> io::Result<Self> {
        let (work, queue) = flume::bounded(QUEUED_COMPACTIONS);
        std::thread::Builder::new()
            .name("compaction-hash".to_owned())
            .spawn(move || {
                priority::lower_priority();
                for compaction in queue {
                    hash(compaction);
                }
            })?;
        Ok(Self { work })
    }

    /// Hands a compaction over. What finds no room goes without a hash.
    pub(crate) fn send(&self, compaction: CompactionHash) {
        let _unhashed = self.work.try_send(compaction);
    }
}

fn hash(compaction: CompactionHash) {
    let started = Instant::now();
    match compaction.run() {
        Ok(hash) => tracing::info!(
            hash = hash.hash,
            revision = hash.revision.0,
            "compact-revision" = hash.compact_revision.0,
            took = ?started.elapsed(),
            "storing new hash"
        ),
        // The member is stopping.
        Err(StorageError::Engine(EngineError::Closed { .. })) => {}
        Err(error) => fatal("hashing a compaction", &error),
    }
}
