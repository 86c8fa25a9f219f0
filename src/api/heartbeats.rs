//! Whether the threads that nothing works without still answer.
//!
//! Reads are answered from published views and, while nobody else has a vote, without asking Raft: they go on when the
//! thread of Raft or of the state machine hangs, on a disk that stalls for example. So each is asked once a second.

use rusd_messages::{Heartbeat, Port, Refused, Reply};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How often a thread is asked.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long it may take to answer. Together with the interval less than the two seconds within which a member that
/// hangs has to say so.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(900);

/// What is known of the threads. Ends asking when dropped.
#[derive(Debug)]
pub struct Heartbeats {
    threads: [Thread; 2],
}

#[derive(Debug)]
struct Thread {
    name: &'static str,
    answers: watch::Receiver<bool>,
}

impl Heartbeats {
    /// Begins to ask. Must be called inside a tokio runtime.
    pub fn start(raft: Port<Heartbeat>, state_machine: Port<Heartbeat>) -> Self {
        Self {
            threads: [
                Thread::start("Raft", raft),
                Thread::start("state machine", state_machine),
            ],
        }
    }

    /// The name of a thread that does not answer, if there is one.
    pub fn silent(&self) -> Option<&'static str> {
        let silent = self.threads.iter().find(|thread| !*thread.answers.borrow());
        silent.map(|thread| thread.name)
    }

    /// Resolves when the thread of this name is silent; without a name, when none is.
    #[cfg(test)]
    pub(crate) async fn until_silent(&self, name: Option<&'static str>) {
        for thread in &self.threads {
            if name.is_none_or(|name| name == thread.name) {
                let mut answers = thread.answers.clone();
                let _prober_gone = answers.wait_for(|answers| *answers == name.is_none()).await;
            }
        }
    }
}

impl Thread {
    fn start(name: &'static str, port: Port<Heartbeat>) -> Self {
        // Until it fails to answer a thread is taken to be alive: a start has its own checks.
        let (sender, answers) = watch::channel(true);
        tokio::spawn(ask(name, port, sender));
        Self { name, answers }
    }
}

/// Asks until the thread ends or nobody wants to know, one question at a time.
async fn ask(name: &'static str, port: Port<Heartbeat>, answers: watch::Sender<bool>) {
    loop {
        let asked = Instant::now();
        let (reply, mut answer) = Reply::channel();
        if let Err(Refused::Closed(_)) = port.tell(Heartbeat { reply }) {
            answers.send_replace(false);
            return;
        }
        let in_time = tokio::time::timeout(ANSWER_TIMEOUT, &mut answer).await;
        let answered = match in_time {
            Ok(answered) => answered.is_ok(),
            Err(_) => {
                tracing::warn!(thread = name, "a thread of the server does not answer");
                answers.send_replace(false);
                tokio::select! {
                    answered = answer => answered.is_ok(),
                    () = answers.closed() => return,
                }
            }
        };
        let before = answers.send_replace(answered);
        if answered && !before {
            tracing::info!(thread = name, "a thread of the server answers again");
        }
        tokio::select! {
            () = tokio::time::sleep_until(asked + INTERVAL) => {}
            () = answers.closed() => return,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// What makes a member that hangs say so in time.
    const SAID_WITHIN: Duration = Duration::from_secs(2);

    #[tokio::test(start_paused = true)]
    async fn p_12_a_thread_that_does_not_answer_is_silent_until_it_does() {
        let (raft, asked_raft) = Port::<Heartbeat>::probe(1);
        let (machine, asked_machine) = Port::<Heartbeat>::probe(1);
        let heartbeats = Heartbeats::start(raft, machine);
        assert_eq!(heartbeats.silent(), None);
        let started = Instant::now();
        tokio::time::sleep(Duration::from_millis(10)).await;
        asked_machine.next().unwrap().reply.send(());
        heartbeats.until_silent(Some("Raft")).await;
        assert!(started.elapsed() < SAID_WITHIN);
        // Nothing more is asked of who has not answered; the other is asked on.
        tokio::time::sleep(Duration::from_millis(500)).await;
        asked_machine.next().unwrap().reply.send(());
        let [question] = asked_raft.all().try_into().unwrap();
        question.reply.send(());
        heartbeats.until_silent(None).await;
        assert_eq!(heartbeats.silent(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn p_12_a_thread_that_has_ended_is_silent_and_dropping_ends_the_questions() {
        let (raft, asked_raft) = Port::<Heartbeat>::probe(1);
        let (machine, asked_machine) = Port::<Heartbeat>::probe(1);
        drop(asked_machine);
        let heartbeats = Heartbeats::start(raft, machine);
        heartbeats.until_silent(Some("state machine")).await;
        drop(heartbeats);
        asked_raft
            .all()
            .into_iter()
            .for_each(|question| question.reply.send(()));
        tokio::time::sleep(3 * INTERVAL).await;
        assert!(asked_raft.next().is_none());
    }

    #[tokio::test]
    async fn p_12_a_real_thread_that_blocks_is_silent_until_it_goes_on() {
        let (raft, raft_queue) = Port::<Heartbeat>::to_thread("test_raft", 1);
        let (machine, machine_queue) = Port::<Heartbeat>::to_thread("test_machine", 1);
        let (block, blocked) = flume::bounded::<flume::Receiver<()>>(1);
        std::thread::spawn(move || {
            for question in machine_queue {
                question.open().reply.send(());
            }
        });
        std::thread::spawn(move || {
            for question in raft_queue {
                if let Ok(until) = blocked.try_recv() {
                    let _released = until.recv();
                }
                question.open().reply.send(());
            }
        });
        let heartbeats = Heartbeats::start(raft, machine);
        let (release, until) = flume::bounded(0);
        block.send(until).unwrap();
        // How soon is a matter of virtual time, above: a busy machine may be late.
        heartbeats.until_silent(Some("Raft")).await;
        assert_eq!(heartbeats.silent(), Some("Raft"));
        drop(release);
        heartbeats.until_silent(None).await;
        assert_eq!(heartbeats.silent(), None);
    }
}
