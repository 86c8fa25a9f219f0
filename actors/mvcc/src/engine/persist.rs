//! The thread that makes the engine durable, beside further writes, and tells Raft how much of the log that covers.
#![allow(clippy::disallowed_methods)]

use rusd_messages::raft::EnginePersisted;
use rusd_messages::{Port, fatal};
use rusd_storage::engine::Engine;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) struct Persister {
    work: flume::Sender<(Arc<dyn Engine>, EnginePersisted)>,
    busy: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Persister {
    pub(super) fn spawn(persisted: Port<EnginePersisted>) -> io::Result<Self> {
        let (work, queue) = flume::bounded::<(Arc<dyn Engine>, EnginePersisted)>(1);
        let busy = Arc::new(AtomicBool::new(false));
        let working = busy.clone();
        let thread = std::thread::Builder::new()
            .name("engine-persist".to_owned())
            .spawn(move || {
                for (engine, covers) in queue {
                    if let Err(error) = engine.persist() {
                        fatal("persisting the engine", &error);
                    }
                    working.store(false, Ordering::Release);
                    let _stopped = persisted.deliver(covers);
                }
            })?;
        Ok(Self {
            work,
            busy,
            thread: Some(thread),
        })
    }

    /// Starts a persist unless one runs.
    pub(super) fn start(&self, engine: Arc<dyn Engine>, covers: EnginePersisted) -> bool {
        !self.busy.swap(true, Ordering::AcqRel) && self.work.send((engine, covers)).is_ok()
    }

    /// Waits for the persist under way.
    pub(super) fn finish(&mut self) {
        let (closed, _) = flume::bounded(0);
        self.work = closed;
        if let Some(thread) = self.thread.take() {
            let _aborted_already = thread.join();
        }
    }
}
