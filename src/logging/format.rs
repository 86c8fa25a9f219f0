//! From an event to a line.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

use super::line::{Line, caller};
use crate::config::{LogFormat, LogLevel};

/// The field that makes an error fatal.
const FATAL: &str = "fatal";
/// The field whose members become fields.
const FIELDS: &str = "fields";
/// The field that `tracing` keeps the message in.
const MESSAGE: &str = "message";

/// The lowest level that is written. `tracing` knows no level above error, so the highest two are told apart here.
#[derive(Clone, Debug)]
pub(super) struct Threshold(Arc<AtomicU8>);

impl Threshold {
    pub(super) fn new(level: LogLevel) -> Self {
        Threshold(Arc::new(AtomicU8::new(level as u8)))
    }

    pub(super) fn set(&self, level: LogLevel) {
        self.0.store(level as u8, Ordering::Relaxed);
    }

    fn passes(&self, level: LogLevel) -> bool {
        level as u8 >= self.0.load(Ordering::Relaxed)
    }
}

/// Renders events in one of the forms.
pub(super) struct Formatter {
    format: LogFormat,
    threshold: Threshold,
}

impl Formatter {
    pub(super) fn new(format: LogFormat, threshold: Threshold) -> Self {
        Formatter { format, threshold }
    }
}

impl<S, N> FormatEvent<S, N> for Formatter
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let level = match *metadata.level() {
            Level::ERROR => LogLevel::Error,
            Level::WARN => LogLevel::Warn,
            Level::INFO => LogLevel::Info,
            Level::DEBUG | Level::TRACE => LogLevel::Debug,
        };
        let module = metadata.module_path().unwrap_or_else(|| metadata.target());
        let krate = module.split("::").next().unwrap_or(module);
        let place = caller(
            krate,
            metadata.file().unwrap_or("unknown"),
            metadata.line().unwrap_or(0),
        );
        let mut collector = Collector {
            line: Line::new(level, SystemTime::now(), place),
            text: String::new(),
        };
        event.record(&mut collector);
        let line = collector.line;
        if !self.threshold.passes(line.level) {
            return Ok(());
        }
        let mut rendered = String::with_capacity(256);
        line.render(self.format, &mut rendered);
        writer.write_str(&rendered)
    }
}

/// Collects the fields of an event.
struct Collector {
    line: Line,
    /// Reused for what `Debug` prints.
    text: String,
}

impl Visit for Collector {
    fn record_bool(&mut self, field: &Field, value: bool) {
        if field.name() == FATAL {
            if value {
                self.line.level = LogLevel::Fatal;
            }
            return;
        }
        self.line.json_field(field.name(), value.to_string());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.line.json_field(field.name(), value.to_string());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.line.json_field(field.name(), value.to_string());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no infinity and no NaN.
        if value.is_finite() {
            self.line
                .json_field(field.name(), serde_json::Value::from(value).to_string());
        } else {
            self.line.text_field(field.name(), &value.to_string());
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            MESSAGE => self.line.message = value.to_owned(),
            FIELDS => self.line.spliced_field(FIELDS, value),
            name => self.line.text_field(name, value),
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.line.text_field(field.name(), &value.to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text.clear();
        // A Debug that fails has printed what it could.
        let _ = write!(self.text, "{value:?}");
        match field.name() {
            MESSAGE => self.line.message.clone_from(&self.text),
            FIELDS => self.line.spliced_field(FIELDS, &self.text),
            name => self.line.debug_field(name, &self.text),
        }
    }
}
