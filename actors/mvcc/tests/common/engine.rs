//! The core of the engine writer. The output is what it has its thread do.
//!
//! * `start [bytes=N] [interval=MS] [checkpoint=MS] [kept=BYTES] [lost-log]`: persist after so many bytes or
//!   milliseconds; checkpoints every so many milliseconds, with so much log kept already, of which the beginning may be
//!   gone.
//! * `write [bytes=N] [log=BYTES]`, `defragment`, `close`: work that is taken in.
//! * `world [pages=N] [page=MS] [busy] [no-copy] [no-page] [no-end]`: a copy has so many pages of so many milliseconds;
//!   the last persist still runs; a copy cannot be begun, a page copied, a checkpoint completed.
//! * `at MS [work]`: asks until there is nothing more to do, `work` if some waits to be taken in.

use super::named;
use goldenscript::{Command, Context};
use rusd_messages::{Index, Pending, Reply};
use rusd_mvcc::engine::{Action, CheckpointPolicy, Core, Schedule};
use rusd_mvcc::{PersistPolicy, Progress, Write as EngineWrite};
use rusd_proto::EtcdError;
use rusd_storage::engine::WriteBatch;
use rusd_storage::{LogPosition, SealedBatch, Sizes};
use std::collections::HashMap;
use std::error::Error;
use std::fmt::Write;
use std::time::Duration;

/// No script has the thread do so many things at once.
const ACTIONS_MAX: usize = 100;

#[derive(Default)]
struct World {
    pages: u64,
    page_ms: u64,
    busy: bool,
    no_copy: bool,
    no_page: bool,
    no_end: bool,
}

pub struct Runner {
    core: Core,
    world: World,
    now_ms: u64,
    /// Entries written so far, one a batch.
    index: u64,
    pages_left: u64,
    callers: Vec<Pending<Result<(), EtcdError>>>,
}

fn core(bytes: usize, interval_ms: u64, checkpoints: Option<Schedule>) -> Core {
    let persist = PersistPolicy {
        bytes,
        interval: Duration::from_millis(interval_ms),
    };
    Core::new(persist, checkpoints, Progress::default())
}

impl Runner {
    pub fn new() -> Self {
        Self {
            core: core(1000, 5000, None),
            world: World::default(),
            now_ms: 0,
            index: 0,
            pages_left: 0,
            callers: Vec::new(),
        }
    }

    fn write(&mut self, bytes: usize, log_bytes: u64) {
        self.index += 1;
        self.core.write(EngineWrite {
            batch: SealedBatch {
                seq: self.index,
                batch: WriteBatch::new(),
                bytes,
            },
            progress: Progress {
                applied: LogPosition {
                    index: self.index,
                    term: 1,
                },
                sizes: Sizes::default(),
            },
            log_bytes,
        });
    }

    fn ask(&mut self, work_waits: bool, output: &mut String) {
        for _ in 0..ACTIONS_MAX {
            let action = self.core.next(self.now_ms, work_waits);
            let ends = matches!(action, Action::Wait { .. } | Action::Close(_));
            let shown = shown(&action);
            writeln!(output, "{}ms: {shown}", self.now_ms).unwrap();
            self.perform(action);
            if ends {
                return;
            }
        }
        output.push_str("...\n");
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Persist(_) if self.world.busy => self.core.persist_refused(),
            Action::BeginCopy(_) if self.world.no_copy => {
                self.core.copy_refused("no room".to_owned());
            }
            Action::BeginCopy(_) => self.pages_left = self.world.pages,
            Action::CopyPage if self.world.no_page => {
                self.core.copy_failed("disk full".to_owned());
            }
            Action::CopyPage => {
                self.now_ms += self.world.page_ms;
                self.pages_left -= 1;
                self.core.page_copied(self.pages_left == 0);
            }
            Action::CompleteCheckpoint { .. } => {
                self.core.checkpoint_completed(!self.world.no_end);
            }
            _ => {}
        }
    }
}

fn shown(action: &Action) -> String {
    let durable = |applied: Index, checkpoint: Option<Index>| {
        let kept = checkpoint.map_or("none".to_owned(), |index| index.0.to_string());
        format!("entry {}, checkpoint {kept}", applied.0)
    };
    match action {
        Action::Wait { until_ms: None } => "wait".to_owned(),
        Action::Wait { until_ms: Some(ms) } => format!("wait until {ms}ms"),
        Action::Write(write) => format!("write {}", write.batch.seq),
        Action::Persist(covers) => {
            format!("persist: {}", durable(covers.applied, covers.checkpoint))
        }
        Action::BeginCopy(purpose) => format!("begin {purpose:?}"),
        Action::CopyPage => "copy a page".to_owned(),
        Action::AbandonCopy { purpose, why } => format!("abandon {purpose:?}: {why}"),
        Action::Switch {
            took_ms,
            covers,
            replies,
        } => format!(
            "switch after {took_ms}ms: {}, {} wait",
            durable(covers.applied, covers.checkpoint),
            replies.len()
        ),
        Action::CompleteCheckpoint { applied, took_ms } => {
            format!("complete checkpoint {} after {took_ms}ms", applied.index)
        }
        Action::RemoveCheckpoint { applied } => format!("remove checkpoint, at {}", applied.0),
        Action::Answer(replies, answer) => format!("answer {}: {answer:?}", replies.len()),
        Action::Close(_) => "close".to_owned(),
    }
}

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let words: Vec<_> = command.args.iter().map(named).collect();
        let options: HashMap<_, _> = words.iter().copied().collect();
        let is = |name| options.contains_key(name);
        let number = |name, default| options.get(name).map_or(Ok(default), |n| n.parse::<u64>());
        let mut output = String::new();
        match command.name.as_str() {
            "start" => {
                let checkpoints = options.get("checkpoint").map(|ms| CheckpointPolicy {
                    interval: Duration::from_millis(ms.parse().unwrap()),
                    log_is_whole: !is("lost-log"),
                    kept_bytes: number("kept", 0).unwrap(),
                });
                let schedule = checkpoints.map(|policy| Schedule::new(policy, None, self.now_ms));
                let bytes = number("bytes", 1000)? as usize;
                self.core = core(bytes, number("interval", 5000)?, schedule);
            }
            "write" => self.write(number("bytes", 10)? as usize, number("log", 10)?),
            "defragment" => {
                let (reply, caller) = Reply::channel();
                self.callers.push(caller);
                self.core.defragment(reply);
            }
            "close" => self.core.close(Reply::ignored()),
            "world" => {
                self.world = World {
                    pages: number("pages", 1)?,
                    page_ms: number("page", 0)?,
                    busy: is("busy"),
                    no_copy: is("no-copy"),
                    no_page: is("no-page"),
                    no_end: is("no-end"),
                };
            }
            "at" => {
                self.now_ms = words[0].0.parse()?;
                self.ask(is("work"), &mut output);
            }
            other => return Err(format!("unknown command {other}").into()),
        }
        Ok(output)
    }
}
