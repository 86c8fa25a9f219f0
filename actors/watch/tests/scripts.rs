//! Golden scripts: what clients ask and the store says, and what the hub answers, line by line.
//!
//! | command | |
//! |---|---|
//! | `config NAME=N..` | before anything else: a small ring, small batches |
//! | `open S [responses=N] [bytes=N] [jitter=N]` | a stream; with bounds, its client reads only when told to |
//! | `create S KEY [END] [start=N] [id=N] [seen=N] [FLAG..]` | flags: prev, progress, fragment, noput, nodelete |
//! | `cancel S ID`, `progress S`, `close S` | |
//! | `put KEY..`, `delete KEY..`, `txn put=KEY delete=KEY..` | one revision, see below for its tags |
//! | `lagged`, `compact N`, `compacted-unheard N` | the store to the hub |
//! | `history` | the hub's question is answered |
//! | `read S [N]` | a slow client reads |
//! | `tick MS`, `counts` | |
//!
//! Tags of a revision: `[queued]` more of the burst follow, `[untold]` the hub is not told, `[bare]` it comes without
//! previous records.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use goldenscript::{Argument, ArgumentConsumer, Command, Context, Runner};
use rusd_messages::watch::{Response, Seen, SinkLimits, StreamId, StreamRequest};
use rusd_proto::etcdserverpb::WatchCreateRequest;
use rusd_proto::etcdserverpb::watch_create_request::FilterType;
use rusd_watch::HubConfig;
use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::Write;
use support::{Rig, on_wire};

struct Script {
    rig: Rig,
    slow: BTreeSet<u64>,
    asked_before: Option<u64>,
}

fn config() -> HubConfig {
    HubConfig::new(1000, 7)
}

fn name(stream: u64) -> char {
    char::from(b'a' + stream as u8)
}

fn describe(stream: u64, response: Response) -> String {
    let (wire, may_be_split) = on_wire(response);
    let mut line = format!("{} {}", name(stream), wire.watch_id);
    if wire.created {
        line += " created";
    }
    if wire.canceled {
        line += " canceled";
    }
    if wire.compact_revision != 0 {
        write!(line, " compact_revision={}", wire.compact_revision).unwrap();
    }
    if !wire.cancel_reason.is_empty() {
        write!(line, " {:?}", wire.cancel_reason).unwrap();
    }
    write!(line, " @{}", wire.header.unwrap().revision).unwrap();
    if may_be_split {
        line += " splittable";
    }
    let events: Vec<_> = wire
        .events
        .iter()
        .map(|e| String::from_utf8_lossy(e).escape_debug().to_string())
        .collect();
    if !events.is_empty() {
        write!(line, ": {}", events.join(", ")).unwrap();
    }
    line + "\n"
}

impl Script {
    fn new() -> Self {
        Self {
            rig: Rig::new(config()),
            slow: BTreeSet::new(),
            asked_before: None,
        }
    }

    fn configure(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<(), Failed> {
        let mut config = config();
        for (name, value) in [
            ("batch_revisions", &mut config.batch_revisions),
            ("apart_revisions", &mut config.apart_revisions),
            ("batch_bytes", &mut config.batch_bytes),
            ("page_bytes", &mut config.page_bytes),
            ("ring_revisions", &mut config.ring_revisions),
        ] {
            *value = number(args, name, *value)?;
        }
        self.rig = Rig::new(config);
        self.slow.clear();
        self.asked_before = None;
        Ok(())
    }

    fn open(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<(), Failed> {
        let stream = stream(args)?;
        let limits = SinkLimits {
            responses: number(args, "responses", 1024)?,
            bytes: number(args, "bytes", 1 << 20)?,
            requests: 16,
        };
        if limits.responses < 1024 || limits.bytes < 1 << 20 {
            self.slow.insert(stream);
        }
        let jitter = number(args, "jitter", 0)?;
        self.rig.open(stream, limits, jitter);
        Ok(())
    }

    fn create(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<(), Failed> {
        let stream = stream(args)?;
        let seen = Seen {
            revision: number(args, "seen", 0)?,
            compacted_revision: number(args, "seen_compacted", -1)?,
        };
        let mut request = WatchCreateRequest {
            start_revision: number(args, "start", 0)?,
            watch_id: number(args, "id", 0)?,
            ..WatchCreateRequest::default()
        };
        let mut keys = Vec::new();
        while let Some(word) = args.next_pos() {
            match word {
                "prev" => request.prev_kv = true,
                "progress" => request.progress_notify = true,
                "fragment" => request.fragment = true,
                "noput" => request.filters.push(FilterType::Noput as i32),
                "nodelete" => request.filters.push(FilterType::Nodelete as i32),
                key => keys.push(key.as_bytes().to_vec()),
            }
        }
        let mut keys = keys.into_iter();
        request.key = keys.next().unwrap_or_default().into();
        request.range_end = keys.next().unwrap_or_default().into();
        let request = StreamRequest::Create { request, seen };
        self.rig.hub.request(StreamId(stream), request);
        Ok(())
    }

    fn commit(&mut self, verb: &str, args: &mut ArgumentConsumer<'_>, context: &Context) {
        let changes: Vec<_> = args
            .map(|argument| match argument {
                Argument::KeyValue(verb, key) => (key.clone(), verb == "delete"),
                Argument::Positional(key) => (key.clone(), verb == "delete"),
                other => panic!("{other}"),
            })
            .collect();
        let revision = self.rig.store.commit(&changes);
        if !context.tags.contains("untold") {
            let with_previous =
                self.rig.hub.previous_wanted() > 0 && !context.tags.contains("bare");
            let told = self.rig.store.told(revision, with_previous);
            self.rig.hub.committed(vec![told]);
        }
    }

    fn perform(&mut self, command: &Command, context: &Context) -> Result<String, Failed> {
        let mut output = String::new();
        let args = &mut command.consume_args();
        match command.name.as_str() {
            "config" => self.configure(args)?,
            "open" => self.open(args)?,
            "create" => self.create(args)?,
            verb @ ("put" | "delete" | "txn") => self.commit(verb, args, context),
            "cancel" => {
                let stream = StreamId(stream(args)?);
                let watch_id = args.next_pos().ok_or("which watch?")?.parse()?;
                self.rig
                    .hub
                    .request(stream, StreamRequest::Cancel { watch_id });
            }
            "progress" => {
                let stream = StreamId(stream(args)?);
                self.rig.hub.request(stream, StreamRequest::Progress);
            }
            "close" => self.rig.close(stream(args)?),
            "lagged" => self.rig.hub.lagged(self.rig.store.revision()),
            "compact" => {
                self.rig.store.compacted = args.next_pos().ok_or("which revision?")?.parse()?;
                self.rig.hub.compacted(self.rig.store.compacted);
            }
            "compacted-unheard" => {
                self.rig.store.compacted = args.next_pos().ok_or("which revision?")?.parse()?;
            }
            "history" => {
                if !self.rig.answer() {
                    output += "(nothing was asked)\n";
                }
            }
            "read" => {
                let stream = stream(args)?;
                let count = args.next_pos().map(str::parse).transpose()?;
                for response in self.rig.read(stream, count.unwrap_or(usize::MAX)) {
                    output += &describe(stream, response);
                }
            }
            "tick" => {
                self.rig.hub.tick(args.next_pos().ok_or("when?")?.parse()?);
            }
            "counts" => writeln!(output, "{:?}", self.rig.hub.counts())?,
            unknown => return Err(format!("unknown command {unknown}").into()),
        }
        args.reject_next()?;
        if !context.tags.contains("queued") {
            self.rig.settle();
        }
        Ok(output)
    }
}

type Failed = Box<dyn Error>;

fn stream(args: &mut ArgumentConsumer<'_>) -> Result<u64, Failed> {
    match args.next_pos().ok_or("which stream?")?.as_bytes() {
        [letter @ b'a'..=b'z'] => Ok(u64::from(letter - b'a')),
        _ => Err("streams are called a to z".into()),
    }
}

fn number<T: std::str::FromStr<Err = std::num::ParseIntError>>(
    args: &mut ArgumentConsumer<'_>,
    name: &str,
    default: T,
) -> Result<T, Failed> {
    Ok(args
        .take_key(name)
        .map(str::parse)
        .transpose()?
        .unwrap_or(default))
}

impl Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, context: &Context) -> Result<String, Failed> {
        let mut output = format!("> {command}\n");
        output += &self.perform(command, context)?;
        self.rig.hub.check();
        let streams: Vec<u64> = self.rig.readers.keys().copied().collect();
        for stream in streams {
            if !self.slow.contains(&stream) {
                for response in self.rig.read(stream, usize::MAX) {
                    output += &describe(stream, response);
                }
            }
        }
        if let Some(asked) = self
            .rig
            .asked
            .filter(|asked| self.asked_before != Some(asked.token))
        {
            self.asked_before = Some(asked.token);
            let previous = if asked.with_previous {
                " with previous"
            } else {
                ""
            };
            let (from, through) = (asked.from_revision, asked.through_revision);
            writeln!(output, "history {from}..={through}{previous}?")?;
        }
        Ok(output)
    }
}

rusd_kit::run_dir!("tests/scripts", Script::new(), [
    w_01_requests
    w_02_created_comes_first
    w_03_watch_ids
    w_04_ranges
    w_05_start_revisions
    w_06_negative_start
    w_07_compaction
    w_09_filters
    w_10_previous_records
    w_12_whole_revisions_in_batches
    w_13_header_revisions
    w_14_fragments
    w_15_periodic_progress
    w_16_progress_on_request
    w_17_cancel
    w_18_slow_consumers
    w_18_history_is_shared
    w_18_fair_turns
    w_20_lag
    memory_is_freed
]);
