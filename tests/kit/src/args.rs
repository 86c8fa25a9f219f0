//! The words and options of a script's command.

use goldenscript::{Argument, Command};
use std::fmt::Debug;
use std::str::FromStr;

/// Words by their place, options by their name: `put k v lease=7` has the words `k` and `v` and the option `lease`.
///
/// A script that cannot be read is a fault of the test, so reading panics, and says which command.
#[derive(Debug)]
pub struct Args<'a> {
    name: &'a str,
    words: Vec<&'a str>,
    options: Vec<(&'a str, &'a str)>,
}

impl<'a> Args<'a> {
    /// Takes a command apart.
    pub fn new(command: &'a Command) -> Self {
        let mut args = Self {
            name: &command.name,
            words: Vec::new(),
            options: Vec::new(),
        };
        for argument in &command.args {
            match argument {
                Argument::Positional(word) => args.words.push(word),
                Argument::KeyValue(name, value) => args.options.push((name, value)),
                other => panic!("{}: {other:?} is neither a word nor an option", args.name),
            }
        }
        args
    }

    /// The command's name.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// All words, in order.
    pub fn words(&self) -> &[&'a str] {
        &self.words
    }

    /// All options, in order; a name may come twice.
    pub fn options(&self) -> &[(&'a str, &'a str)] {
        &self.options
    }

    /// Word `n`, counted from 0; empty if the command has fewer.
    pub fn word(&self, n: usize) -> &'a str {
        self.words.get(n).copied().unwrap_or_default()
    }

    /// Word `n` with one byte per character, so that a script can write any byte as an escape.
    pub fn bytes<T: FromIterator<u8>>(&self, n: usize) -> T {
        latin(self.word(n))
    }

    /// Word `n` as a number, or another value that is written as one word; it must be there.
    pub fn number<T: FromStr<Err: Debug>>(&self, n: usize) -> T {
        self.parsed(&format!("word {n}"), self.word(n))
    }

    /// Word `n` as a number, or the default if the command has fewer words.
    pub fn number_or<T: FromStr<Err: Debug>>(&self, n: usize, default: T) -> T {
        match self.words.get(n) {
            Some(word) => self.parsed(&format!("word {n}"), word),
            None => default,
        }
    }

    /// The text of an option, if it is given.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.options
            .iter()
            .find(|(option, _)| *option == name)
            .map(|(_, value)| *value)
    }

    /// The value of an option; its type's default (0, false, empty) if it is not given.
    pub fn option<T: FromStr<Err: Debug> + Default>(&self, name: &str) -> T {
        match self.text(name) {
            Some(value) => self.parsed(name, value),
            None => T::default(),
        }
    }

    fn parsed<T: FromStr<Err: Debug>>(&self, place: &str, text: &str) -> T {
        match text.parse() {
            Ok(value) => value,
            Err(error) => panic!("{}: {place} is {text:?}: {error:?}", self.name),
        }
    }
}

/// One byte per character; a character above 255 panics.
pub fn latin<T: FromIterator<u8>>(word: &str) -> T {
    word.chars()
        .map(|c| u8::try_from(c).unwrap_or_else(|_| panic!("{c:?} is more than one byte")))
        .collect()
}
