//! The threads that actors run on.

use actix_rt::{Arbiter, ArbiterHandle, System};
use std::io;
use std::thread::JoinHandle;

/// One for each heavy actor, one for the light ones, and one that holds them together.
pub struct Threads {
    system: System,
    system_thread: JoinHandle<()>,
    /// Consensus.
    pub raft: ArbiterHandle,
    /// The state machine.
    pub mvcc: ArbiterHandle,
    /// The watch hub.
    pub watch: ArbiterHandle,
    /// Lease timer, compactor, members.
    pub timers: ArbiterHandle,
}

impl Threads {
    /// Starts them.
    pub fn start() -> io::Result<Self> {
        let (sender, started) = std::sync::mpsc::channel();
        let system_thread = std::thread::Builder::new()
            .name("actors".to_owned())
            .spawn(move || {
                let runner = System::new();
                runner.block_on(async {
                    let arbiter = || Arbiter::new().handle();
                    let handles = [arbiter(), arbiter(), arbiter(), arbiter()];
                    // Only a starter that has given up does not receive.
                    let _gone = sender.send((System::current(), handles));
                });
                if let Err(error) = runner.run() {
                    tracing::warn!(%error, "the actor system ended with an error");
                }
            })?;
        let (system, [raft, mvcc, watch, timers]) = started.recv().map_err(io::Error::other)?;
        Ok(Self {
            system,
            system_thread,
            raft,
            mvcc,
            watch,
            timers,
        })
    }

    /// Ends them, and waits until they have ended. What an actor still has to do is dropped: stop the actors first.
    pub async fn stop(self) {
        self.system.stop();
        let _ended = tokio::task::spawn_blocking(move || self.system_thread.join()).await;
    }
}
