//! The thread that makes the engine durable, beside further writes, and tells Raft how much of the log that covers.

use rusd_messages::raft::EnginePersisted;
use rusd_messages::{Port, fatal};
use rusd_storage::engine::Engine;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) struct Persister {
    work: flume::Sender<(Arc<dyn Engine>, EnginePersisted)>,
    persisted: Port<EnginePersisted>,
    busy: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Persister {
    pub(crate) fn spawn(persisted: Port<EnginePersisted>) -> io::Result<Self> {
        let (work, queue) = flume::bounded::<(Arc<dyn Engine>, EnginePersisted)>(1);
        let busy = Arc::new(AtomicBool::new(false));
        let working = busy.clone();
        let finished = persisted.clone();
        let thread = std::thread::Builder::new()
            .name("engine-persist".to_owned())
            .spawn(move || {
                for (engine, covers) in queue {
                    if let Err(error) = engine.persist() {
                        fatal("persisting the engine", &error);
                    }
                    working.store(false, Ordering::Release);
                    let _stopped = finished.deliver(covers);
                }
            })?;
        Ok(Self {
            work,
            persisted,
            busy,
            thread: Some(thread),
        })
    }

    /// Starts a persist unless one runs.
    pub(crate) fn start(&self, engine: Arc<dyn Engine>, covers: EnginePersisted) -> bool {
        !self.busy.swap(true, Ordering::AcqRel) && self.work.send((engine, covers)).is_ok()
    }

    /// Something else has made everything that this says durable.
    pub(crate) fn covers(&self, covers: EnginePersisted) {
        let _stopped = self.persisted.deliver(covers);
    }

    pub(crate) fn finish(&mut self) {
        let (closed, _) = flume::bounded(0);
        self.work = closed;
        if let Some(thread) = self.thread.take() {
            let _aborted_already = thread.join();
        }
    }
}
