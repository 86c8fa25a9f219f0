//! One log line, and its three forms.

use std::fmt::Write as _;
use std::time::SystemTime;

use super::timestamp::push_rfc3339_micros;
use crate::config::{LogFormat, LogLevel};

/// The most bytes of a message or of one field's text. What is longer is cut: a request of a megabyte is no log line.
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// Keys that a field may not have: the line has them already.
const RESERVED: [&str; 4] = ["level", "ts", "caller", "msg"];

/// A line before it is rendered.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) level: LogLevel,
    time: SystemTime,
    caller: String,
    pub(super) message: String,
    fields: Vec<Field>,
}

#[derive(Debug)]
enum Field {
    /// A name and a JSON value.
    Pair(String, String),
    /// The members of a JSON object, without its braces.
    Members(String),
}

impl Line {
    pub(super) fn new(level: LogLevel, time: SystemTime, caller: String) -> Self {
        Line {
            level,
            time,
            caller,
            message: String::new(),
            fields: Vec::new(),
        }
    }

    /// Adds a field with a text.
    pub(super) fn text_field(&mut self, name: &str, value: &str) {
        self.json_field(name, json_text(cut(value)));
    }

    /// Adds a field whose value is JSON already.
    pub(super) fn json_field(&mut self, name: &str, json: String) {
        let name = if RESERVED.contains(&name) {
            format!("{name}_")
        } else {
            name.to_owned()
        };
        self.fields.push(Field::Pair(name, json));
    }

    /// Adds a field from what its `Debug` printed: a list if it reads as one, a text otherwise.
    pub(super) fn debug_field(&mut self, name: &str, debug: &str) {
        if debug.starts_with('[')
            && debug.len() <= TEXT_BYTES_MAX
            && let Ok(list) = serde_json::from_str::<Vec<serde_json::Value>>(debug)
        {
            self.json_field(name, serde_json::Value::from(list).to_string());
            return;
        }
        self.text_field(name, debug);
    }

    /// Adds the members of a JSON object, or the text as one field if it is none.
    pub(super) fn spliced_field(&mut self, name: &str, object: &str) {
        let inner = object
            .trim()
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'));
        match (
            inner,
            serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(object),
        ) {
            (Some(_), Ok(members)) if members.is_empty() => {}
            (Some(inner), Ok(_)) => self.fields.push(Field::Members(inner.trim().to_owned())),
            _ => self.text_field(name, object),
        }
    }

    /// Appends the line and its end to `out`.
    pub(super) fn render(&self, format: LogFormat, out: &mut String) {
        match format {
            LogFormat::Json => self.render_json(out),
            LogFormat::Console => self.render_console(out),
            LogFormat::Text => self.render_text(out),
        }
        out.push('\n');
    }

    fn render_json(&self, out: &mut String) {
        out.push_str("{\"level\":\"");
        out.push_str(self.level.as_str());
        out.push_str("\",\"ts\":\"");
        push_rfc3339_micros(self.time, out);
        out.push_str("\",\"caller\":");
        out.push_str(&json_text(&self.caller));
        out.push_str(",\"msg\":");
        out.push_str(&json_text(cut(&self.message)));
        for field in &self.fields {
            match field {
                Field::Pair(name, json) => {
                    out.push(',');
                    out.push_str(&json_text(name));
                    out.push(':');
                    out.push_str(json);
                }
                Field::Members(members) => {
                    out.push(',');
                    out.push_str(members);
                }
            }
        }
        out.push('}');
    }

    fn render_console(&self, out: &mut String) {
        push_rfc3339_micros(self.time, out);
        let message = one_line(cut(&self.message));
        // Writing to a String cannot fail.
        let _ = write!(out, "\t{}\t{}\t{message}", self.level.as_str(), self.caller);
        for (position, field) in self.fields.iter().enumerate() {
            out.push_str(if position == 0 { "\t{" } else { ", " });
            match field {
                Field::Pair(name, json) => {
                    let _ = write!(out, "{}: {json}", json_text(name));
                }
                Field::Members(members) => out.push_str(members),
            }
        }
        if !self.fields.is_empty() {
            out.push('}');
        }
    }

    fn render_text(&self, out: &mut String) {
        push_rfc3339_micros(self.time, out);
        let message = one_line(cut(&self.message));
        let _ = write!(out, " {:5} {} {message}", self.level.as_str(), self.caller);
        for field in &self.fields {
            match field {
                Field::Pair(name, json) => {
                    let _ = write!(out, " {name}={}", bare_if_plain(json));
                }
                Field::Members(members) => {
                    let object = format!("{{{members}}}");
                    let read =
                        serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&object);
                    for (name, value) in read.unwrap_or_default() {
                        let _ = write!(out, " {name}={}", bare_if_plain(&value.to_string()));
                    }
                }
            }
        }
    }
}

/// A JSON text without its quotes if it needs none.
fn bare_if_plain(json: &str) -> &str {
    match json
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    {
        Some(inner) if !inner.is_empty() && !inner.contains([' ', '"', '\\', '=']) => inner,
        _ => json,
    }
}

/// A text as JSON writes it.
pub(super) fn json_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The start of a text that is longer than a line should be.
fn cut(text: &str) -> &str {
    if text.len() <= TEXT_BYTES_MAX {
        return text;
    }
    let end = (0..=TEXT_BYTES_MAX)
        .rev()
        .find(|&end| text.is_char_boundary(end))
        .unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

/// A text that stays on one line.
fn one_line(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains(|c: char| c.is_control()) {
        text.replace(|c: char| c.is_control(), " ").into()
    } else {
        text.into()
    }
}

/// Where a line comes from: crate, file and line number, without what the build machine's directories are called.
pub(super) fn caller(krate: &str, file: &str, line: u32) -> String {
    let inside = match file.rsplit_once("/src/") {
        Some((_, inside)) => inside,
        None => file
            .strip_prefix("src/")
            .unwrap_or_else(|| file.rsplit('/').next().unwrap_or(file)),
    };
    format!("{krate}/{inside}:{line}")
}
