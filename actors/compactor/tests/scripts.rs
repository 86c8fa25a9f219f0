//! Golden scripts of the compactor's cores: `scripts/` holds them.
//!
//! Policy: `policy periodic|revision|off [N]` (milliseconds, or revisions), `revision N`, `lead`, `follow`,
//! `tick DURATION` and `ok`, `fail` for the compaction shown last. `run DURATION every=DURATION [revisions=N]`
//! ticks on, each compaction succeeding and each tick bringing so many revisions.
//!
//! Pacing: `pace RECORDS MS`, `pending REVISION`, `time DURATION`, `refused`, and
//! `stepped REMOVED [finished=true] [unwritten=BYTES] [looks=true]` (the next step only looks for records).
//!
//! Durations are written `90s`, `5m`, `24h` or `20ms` and are absolute, from the start; those of `run` are how much
//! longer.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use goldenscript::{Command, Context};
use rusd_compactor::AutoMode;
use rusd_compactor::pacing::{Pace, Pacing};
use rusd_compactor::policy::AutoCompaction;
use rusd_kit::Args;
use rusd_messages::compactor::CompactStepped;
use std::error::Error;
use std::fmt::Write;

struct Runner {
    policy: AutoCompaction,
    pacing: Pacing,
    now_ms: u64,
    revision: i64,
}

impl Runner {
    fn new() -> Self {
        Self {
            policy: AutoCompaction::new(AutoMode::Off),
            pacing: Pacing::new(Pace {
                step_records: 1_000,
                pause_ms: 10,
            }),
            now_ms: 0,
            revision: 0,
        }
    }

    fn run(&mut self, for_ms: u64, every_ms: u64, revisions: i64, output: &mut String) {
        let end_ms = self.now_ms + for_ms;
        while self.now_ms < end_ms {
            self.now_ms += every_ms;
            self.revision += revisions;
            self.policy.revision(self.revision);
            if let Some(target) = self.policy.tick(self.now_ms) {
                let behind = self.revision - target;
                writeln!(
                    output,
                    "{}: compact {target}, {behind} behind",
                    shown(self.now_ms)
                )
                .unwrap();
                self.policy.finished(true);
            }
        }
    }

    fn step(&mut self, output: &mut String) {
        if let Some(records) = self.pacing.step() {
            writeln!(output, "-> step of {records}").unwrap();
        }
    }
}

fn duration_ms(word: &str) -> u64 {
    let digits = word.trim_end_matches(char::is_alphabetic);
    let unit = match &word[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        other => panic!("unit {other:?}"),
    };
    digits.parse::<u64>().unwrap() * unit
}

fn shown(ms: u64) -> String {
    match ms {
        _ if ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
        _ if ms.is_multiple_of(60_000) => format!("{}m", ms / 60_000),
        _ if ms.is_multiple_of(1_000) => format!("{}s", ms / 1_000),
        _ => format!("{ms}ms"),
    }
}

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let args = Args::new(command);
        let mut output = String::new();
        match args.name() {
            "policy" => {
                *self = Self::new();
                self.policy = AutoCompaction::new(match args.word(0) {
                    "off" => AutoMode::Off,
                    "periodic" => AutoMode::Periodic {
                        retention_ms: duration_ms(args.word(1)),
                    },
                    _ => AutoMode::Revisions {
                        retained: args.number(1),
                    },
                });
            }
            "revision" => {
                self.revision = args.number(0);
                self.policy.revision(self.revision);
            }
            "lead" => self.policy.lead(true),
            "follow" => self.policy.lead(false),
            "tick" => {
                self.now_ms = duration_ms(args.word(0));
                if let Some(target) = self.policy.tick(self.now_ms) {
                    writeln!(output, "-> compact {target}")?;
                }
            }
            "ok" => self.policy.finished(true),
            "fail" => self.policy.finished(false),
            "run" => {
                let revisions = args.option("revisions");
                let every_ms = duration_ms(args.text("every").unwrap());
                self.run(duration_ms(args.word(0)), every_ms, revisions, &mut output);
            }
            "pace" => {
                self.pacing = Pacing::new(Pace {
                    step_records: args.number(0),
                    pause_ms: args.number(1),
                });
            }
            "pending" => {
                self.pacing.pending(args.number(0));
                self.step(&mut output);
            }
            "time" => {
                self.pacing.tick(duration_ms(args.word(0)));
                self.step(&mut output);
            }
            "stepped" => {
                let stepped = CompactStepped {
                    removed: args.number(0),
                    finished: args.option("finished"),
                    unwritten_bytes: args.option("unwritten"),
                    next_removes: !args.option::<bool>("looks"),
                };
                if let Some(done) = self.pacing.stepped(&stepped) {
                    writeln!(output, "{done:?}")?;
                }
                self.step(&mut output);
            }
            "refused" => self.pacing.not_stepped(),
            other => return Err(format!("unknown command {other}").into()),
        }
        Ok(output)
    }
}

rusd_kit::run_dir!("tests/scripts", Runner::new(), [
    kv_c03_pacing
    kv_c05_restart
    kv_c05_steps_are_skipped_while_the_engine_is_behind
    o_05_failures
    o_05_leadership
    o_05_periodic
    o_05_revision
]);
