//! The log from an event to its outputs.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// An output that tests can read, and hold up.
#[derive(Clone, Default)]
struct Sink(Arc<(Mutex<SinkState>, Condvar)>);

#[derive(Default)]
struct SinkState {
    written: Vec<u8>,
    held: bool,
    waiting: bool,
}

impl Sink {
    fn text(&self) -> String {
        String::from_utf8(self.0.0.lock().unwrap().written.clone()).unwrap()
    }

    fn hold(&self, held: bool) {
        self.0.0.lock().unwrap().held = held;
        self.0.1.notify_all();
    }

    fn wait_until_held_up(&self) {
        let state = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(state, |state| !state.waiting).unwrap());
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.0.lock().unwrap();
        state.waiting = true;
        self.0.1.notify_all();
        let mut state = self.0.1.wait_while(state, |state| state.held).unwrap();
        state.waiting = false;
        state.written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is written while `body` runs under a log of this form and level.
fn logged(format: LogFormat, level: LogLevel, body: impl FnOnce()) -> String {
    let sink = Sink::default();
    let queue = Queue::to_test_sink(Box::new(sink.clone()), format, 1024);
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .event_format(Formatter::new(format, Threshold::new(level)))
        .with_writer(queue.clone());
    let subscriber = tracing_subscriber::registry()
        .with(targets(level))
        .with(lines);
    tracing::subscriber::with_default(subscriber, body);
    assert!(queue.flush(Duration::from_secs(30)));
    sink.text()
}

fn json_lines(text: &str) -> Vec<serde_json::Map<String, serde_json::Value>> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn o17_pr05_every_line_is_one_json_object_with_level_ts_caller_msg_first() {
    let text = logged(LogFormat::Json, LogLevel::Info, || {
        tracing::info!(
            name = "default",
            count = 3,
            "ready to serve\nclient requests"
        );
        tracing::warn!(urls = ?["a", "b"], error = %io::Error::other("no \"disk\""), level = 1, ratio = 0.5, "slow");
    });
    let first = text.lines().next().unwrap();
    assert!(
        first.starts_with("{\"level\":\"info\",\"ts\":\"2"),
        "{first}"
    );
    assert!(
        first.contains("Z\",\"caller\":\"rusd/logging/tests.rs:"),
        "{first}"
    );
    assert!(
        first.ends_with(
            ",\"msg\":\"ready to serve\\nclient requests\",\"name\":\"default\",\"count\":3}"
        ),
        "{first}"
    );
    let lines = json_lines(&text);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[1]["level"], "warn");
    assert_eq!(lines[1]["urls"], serde_json::json!(["a", "b"]));
    assert_eq!(lines[1]["error"], "no \"disk\"");
    assert_eq!(lines[1]["level_"], 1);
    assert_eq!(lines[1]["ratio"], 0.5);
}

#[test]
fn o17_the_members_of_an_object_become_fields() {
    let text = logged(LogFormat::Json, LogLevel::Info, || {
        tracing::info!(fields = %"{\"a\":1,\"b\":[\"x\"]}", "starting");
        tracing::info!(fields = "{}", "nothing");
        tracing::info!(fields = "{\"a\":", "broken");
    });
    let lines = json_lines(&text);
    assert_eq!(
        (&lines[0]["a"], &lines[0]["b"]),
        (&serde_json::json!(1), &serde_json::json!(["x"]))
    );
    assert_eq!(lines[1].len(), 4);
    assert_eq!(lines[2]["fields"], "{\"a\":");
}

#[test]
fn o17_console_and_text_forms() {
    let body = || tracing::info!(name = "a b", n = 1, "hello");
    let console = logged(LogFormat::Console, LogLevel::Info, body);
    let parts: Vec<&str> = console.trim_end().split('\t').collect();
    assert_eq!(
        (parts[1], parts[3], parts[4]),
        ("info", "hello", "{\"name\": \"a b\", \"n\": 1}")
    );
    let text = logged(LogFormat::Text, LogLevel::Info, body);
    assert!(text.contains(" info  rusd/logging/tests.rs:"), "{text}");
    assert!(text.ends_with(" hello name=\"a b\" n=1\n"), "{text}");
    let bare = logged(LogFormat::Console, LogLevel::Info, || {
        tracing::info!("hello")
    });
    assert!(bare.ends_with("\thello\n"), "{bare}");
}

#[test]
fn o17_levels_keep_lower_lines_out_and_fatal_passes_all_of_them() {
    let body = || {
        tracing::debug!("d");
        tracing::info!("i");
        tracing::warn!("w");
        tracing::error!("e");
        tracing::error!(fatal = true, "f");
    };
    for (level, expected) in [
        (LogLevel::Debug, "diwef"),
        (LogLevel::Info, "iwef"),
        (LogLevel::Warn, "wef"),
        (LogLevel::Error, "ef"),
        (LogLevel::Panic, "f"),
        (LogLevel::Fatal, "f"),
    ] {
        let lines = json_lines(&logged(LogFormat::Json, level, body));
        let told: String = lines
            .iter()
            .filter_map(|line| line["msg"].as_str())
            .collect();
        assert_eq!(told, expected, "{level:?}");
        assert_eq!(lines.last().unwrap()["level"], "fatal");
        assert!(!lines.last().unwrap().contains_key("fatal"));
    }
    let text = logged(
        LogFormat::Json,
        LogLevel::Debug,
        || tracing::debug!(target: "h2::proto", "noise"),
    );
    assert_eq!(text, "");
}

#[test]
fn o17_a_slow_output_never_holds_up_the_server_and_dropped_lines_are_told() {
    let sink = Sink::default();
    sink.hold(true);
    let queue = Queue::to_test_sink(Box::new(sink.clone()), LogFormat::Json, 4);
    let lines = tracing_subscriber::fmt::layer()
        .event_format(Formatter::new(
            LogFormat::Json,
            Threshold::new(LogLevel::Info),
        ))
        .with_writer(queue.clone());
    let subscriber = tracing_subscriber::registry().with(lines);
    tracing::subscriber::with_default(subscriber, || {
        tracing::info!("first");
        // The writer now has one line in its hands; four more fit in the queue.
        sink.wait_until_held_up();
        for number in 0..10 {
            tracing::info!(number, "more");
        }
    });
    assert_eq!(queue.dropped(), 6);
    assert!(
        !queue.flush(Duration::from_millis(1)),
        "nothing can be flushed while the output stands still"
    );
    sink.hold(false);
    assert!(queue.flush(Duration::from_secs(30)));
    let lines = json_lines(&sink.text());
    let dropped: u64 = lines
        .iter()
        .filter_map(|line| line.get("count").and_then(|count| count.as_u64()))
        .sum();
    assert_eq!(dropped, 6);
    assert_eq!(lines.iter().filter(|line| line["msg"] == "more").count(), 4);
}

#[test]
fn callers_are_shown_without_the_build_machines_directories() {
    for (file, expected) in [
        ("src/rpc/kv.rs", "k/rpc/kv.rs:7"),
        ("actors/raft/src/core.rs", "k/core.rs:7"),
        (
            "/home/x/registry/src/index/h2-0.4/src/proto/mod.rs",
            "k/proto/mod.rs:7",
        ),
        ("/home/x/build.rs", "k/build.rs:7"),
    ] {
        assert_eq!(line::caller("k", file, 7), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pr05_any_message_and_field_is_one_json_line(message in ".{0,50}", name in "[a-z]{1,5}", value in ".{0,50}") {
        let mut line = Line::new(LogLevel::Info, SystemTime::now(), "rusd/x.rs:1".to_owned());
        line.message = message.clone();
        line.text_field(&name, &value);
        line.debug_field("debug", &format!("{value:?}"));
        let mut rendered = String::new();
        line.render(LogFormat::Json, &mut rendered);
        let lines = json_lines(&rendered);
        prop_assert_eq!(lines.len(), 1);
        prop_assert_eq!(lines[0]["msg"].as_str(), Some(message.as_str()));
        for format in [LogFormat::Console, LogFormat::Text] {
            let mut rendered = String::new();
            line.render(format, &mut rendered);
            prop_assert_eq!(rendered.matches('\n').count(), 1);
        }
    }
}
