//! The kinds of values a setting can have, and how each is read from text.
//!
//! Flags and variables arrive as text. The two file formats bring their own types, and are turned into the same values
//! by `rusd_toml` and `etcd_file`.

use std::time::Duration;

use super::duration;
use super::gates::FeatureGates;
use super::literal::{parse_bool, parse_int, parse_uint};
use super::url::Urls;

/// What a setting accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bool,
    /// A whole number of at least 0 that fits in this many bits.
    Uint(u32),
    /// A whole number of 64 bits with a sign.
    Int,
    /// A span of time.
    Duration,
    Text,
    /// Comma-separated texts.
    List,
    /// Comma-separated URLs.
    Urls,
    /// One of these words, checked as the command line is read: another is exit code 2.
    Choice(&'static [&'static str]),
    /// One of these words, checked afterwards, as etcd does with most of them: another is exit code 1.
    Word(&'static [&'static str]),
    /// Feature gates.
    Gates,
    /// Origins of web pages: comma-separated URLs, or `*` for all.
    Origins,
}

impl Kind {
    /// The word that stands for a value in help texts.
    pub fn placeholder(self) -> &'static str {
        match self {
            Kind::Bool => "true|false",
            Kind::Uint(_) | Kind::Int => "number",
            Kind::Duration => "duration",
            Kind::Text | Kind::Choice(_) | Kind::Word(_) => "text",
            Kind::List => "text,...",
            Kind::Urls | Kind::Origins => "url,...",
            Kind::Gates => "gate=true|false,...",
        }
    }

    /// Reads a value as it stands on the command line or in a variable.
    pub fn parse(self, text: &str) -> Result<Value, String> {
        match self {
            Kind::Bool => parse_bool(text).map(Value::Bool),
            Kind::Uint(bits) => parse_uint(text, bits).map(Value::Uint),
            Kind::Int => parse_int(text).map(Value::Int),
            Kind::Duration => duration::parse(text).map(Value::Duration),
            Kind::Text => Ok(Value::Text(text.to_owned())),
            Kind::List => Ok(Value::List(split_list(text))),
            Kind::Urls => text.parse().map(Value::Urls),
            Kind::Choice(words) | Kind::Word(words) => {
                // etcd reads levels of the log in any case; for the others it does no harm.
                let any_case = matches!(self, Kind::Choice(_));
                let is_meant =
                    |word: &&str| *word == text || any_case && word.eq_ignore_ascii_case(text);
                if let Some(word) = words.iter().copied().find(is_meant) {
                    return Ok(Value::Text(word.to_owned()));
                }
                let shown = self.words().unwrap_or_default().join(", ");
                Err(format!("{text:?} is not one of {shown}"))
            }
            Kind::Gates => FeatureGates::parse(text).map(|_| Value::Text(text.to_owned())),
            Kind::Origins if text == "*" => Ok(Value::List(vec![text.to_owned()])),
            Kind::Origins => text
                .parse()
                .map(|urls: Urls| Value::List(urls.to_strings())),
        }
    }

    /// Whether an empty text is one of its values, rather than none.
    pub fn accepts_empty(self) -> bool {
        match self {
            Kind::Choice(words) | Kind::Word(words) => words.contains(&""),
            Kind::Text | Kind::Gates => true,
            _ => false,
        }
    }

    /// The words to choose from, if that is what it is.
    pub fn words(self) -> Option<Vec<&'static str>> {
        match self {
            Kind::Choice(words) | Kind::Word(words) => Some(
                words
                    .iter()
                    .copied()
                    .filter(|word| !word.is_empty())
                    .collect(),
            ),
            _ => None,
        }
    }

    /// Whether a value that cannot be read is a slip on the command line rather than a bad configuration.
    pub fn is_checked_by_the_command_line(self) -> bool {
        !matches!(self, Kind::Word(_))
    }
}

/// A value of one of the kinds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Bool(bool),
    Uint(u64),
    Int(i64),
    Duration(Duration),
    /// See [`Kind::Text`], [`Kind::Choice`], [`Kind::Word`] and [`Kind::Gates`].
    Text(String),
    /// See [`Kind::List`] and [`Kind::Origins`].
    List(Vec<String>),
    Urls(Urls),
}

/// Splits at commas; an empty text is an empty list.
fn split_list(text: &str) -> Vec<String> {
    if text.is_empty() {
        return Vec::new();
    }
    text.split(',').map(|item| item.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let numbers = [Kind::Uint(32), Kind::Uint(64), Kind::Int, Kind::Duration];
            for kind in numbers.into_iter().chain([Kind::Bool, Kind::List, Kind::Urls]) {
                let _ = kind.parse(&text);
            }
        }
    }
}
