//! The kit on itself: what the helpers read of a command.
#![allow(missing_docs)]

use goldenscript::{Command, Context};
use rusd_kit::Args;
use std::error::Error;

struct Runner;

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let args = Args::new(command);
        Ok(match args.name() {
            "words" => format!("{:?}", args.words()),
            "options" => format!("{:?}", args.options()),
            "bytes" => format!("{:?}", args.bytes::<Vec<u8>>(0)),
            "number" => args.number::<i64>(0).to_string(),
            "number-or-5" => args.number_or(0, 5).to_string(),
            "lease" => args.option::<i64>("lease").to_string(),
            "prev" => args.option::<bool>("prev").to_string(),
            other => return Err(format!("unknown command {other}").into()),
        })
    }
}

rusd_kit::run_dir!("tests/scripts", Runner, [args]);
