//! The value of every setting, and where it came from.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::error::ConfigError;
use super::flags::{self, Flag, Status};
use super::gates::Gate;
use super::url::Urls;
use super::value::Value;

/// Where a value was given. Errors name it, so that the operator finds what to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nowhere: it is the table's default.
    Default,
    /// On the command line, in this spelling.
    Flag(String),
    /// In this environment variable.
    Variable(String),
    /// Under this key of a configuration file.
    File(String),
}

impl Place {
    /// The place as errors and warnings show it; the flag's name is always part of it.
    pub(super) fn show(&self, name: &str) -> String {
        match self {
            Place::Default => format!("--{name}"),
            Place::Flag(spelling) => format!("--{spelling}"),
            Place::Variable(variable) => format!("{variable} (--{name})"),
            Place::File(key) => format!("{key} (--{name})"),
        }
    }
}

/// Something odd that does not keep the server from starting. One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What is odd, and what to do about it.
    pub message: String,
}

impl Warning {
    /// A warning with this text.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Warning {
            message: message.into(),
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// A value and its place.
#[derive(Clone, Debug)]
struct Setting {
    value: Value,
    place: Place,
    /// Whether somebody has asked for the value.
    is_read: Cell<bool>,
}

impl Setting {
    fn new(value: Value, place: Place) -> Self {
        let is_read = Cell::new(false);
        Setting {
            value,
            place,
            is_read,
        }
    }
}

/// All settings.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    values: BTreeMap<&'static str, Setting>,
    /// Gates that older flags switched one by one.
    pub(super) gates: Vec<(Gate, bool, Place)>,
    pub(super) warnings: Vec<Warning>,
    /// Whether the settings come from etcd's own configuration file, which is laxer in one rule (F-08).
    pub(super) from_etcd_file: bool,
}

/// What a value of the table can be read as.
pub(super) trait FromValue: Sized {
    /// None if the table has another kind for it.
    fn from_value(value: &Value) -> Option<Self>;
}

macro_rules! from_value {
    ($($variant:ident: $type:ty),+ $(,)?) => {
        $(impl FromValue for $type {
            fn from_value(value: &Value) -> Option<Self> {
                match value {
                    Value::$variant(value) => Some(value.clone()),
                    _ => None,
                }
            }
        })+
    };
}

from_value! {
    Bool: bool,
    Uint: u64,
    Int: i64,
    Duration: Duration,
    Text: String,
    List: Vec<String>,
    Urls: Urls,
}

impl FromValue for u32 {
    fn from_value(value: &Value) -> Option<Self> {
        u64::from_value(value).and_then(|value| value.try_into().ok())
    }
}

/// The table disagrees with the code that reads it; a test of the defaults keeps this from happening.
fn inconsistent(name: &str) -> ConfigError {
    ConfigError::Rule(format!(
        "the setting {name} is not in the table of settings as it is used"
    ))
}

impl Settings {
    /// Every setting at its default.
    pub(super) fn defaults() -> Result<Self, ConfigError> {
        let mut values = BTreeMap::new();
        for flag in flags::all() {
            let value = flag
                .kind
                .parse(flag.default)
                .map_err(|_| inconsistent(flag.name))?;
            values.insert(flag.name, Setting::new(value, Place::Default));
        }
        Ok(Settings {
            values,
            gates: Vec::new(),
            warnings: Vec::new(),
            from_etcd_file: false,
        })
    }

    /// Gives a setting a value.
    pub(super) fn set(&mut self, flag: &'static Flag, value: Value, place: Place) {
        self.values.insert(flag.name, Setting::new(value, place));
    }

    /// Whether a value is the setting's default.
    pub(super) fn is_default(flag: &Flag, value: &Value) -> bool {
        flag.kind.parse(flag.default).as_ref() == Ok(value)
    }

    /// Whether the setting was given at all, its default value included.
    pub(super) fn is_given(&self, name: &str) -> bool {
        self.values
            .get(name)
            .is_some_and(|setting| setting.place != Place::Default)
    }

    /// Where the setting was given, for an error about it.
    pub(super) fn place(&self, name: &str) -> String {
        match self.values.get(name) {
            Some(setting) => setting.place.show(name),
            None => format!("--{name}"),
        }
    }

    /// Refuses what this build does not have, and warns of what has no effect.
    pub(super) fn check_statuses(&mut self) -> Result<(), ConfigError> {
        for flag in flags::all() {
            let Some(setting) = self
                .values
                .get(flag.name)
                .filter(|setting| setting.place != Place::Default)
            else {
                continue;
            };
            match flag.status {
                Status::Works | Status::Moot(_) => {}
                Status::NoEffect(reason) => {
                    let place = setting.place.show(flag.name);
                    self.warnings
                        .push(Warning::new(format!("{place} has no effect: {reason}")));
                }
                Status::NotBuilt(feature) => {
                    if !Self::is_default(flag, &setting.value) {
                        return Err(ConfigError::NotBuilt {
                            place: setting.place.show(flag.name),
                            value: show_value(flag, &setting.value),
                            feature: feature.to_owned(),
                        });
                    }
                }
            }
        }
        Ok(())
    }

    /// A setting's value, in the type of the field that it is for.
    pub(super) fn get<T: FromValue>(&self, name: &str) -> Result<T, ConfigError> {
        let setting = self.values.get(name).ok_or_else(|| inconsistent(name))?;
        setting.is_read.set(true);
        T::from_value(&setting.value).ok_or_else(|| inconsistent(name))
    }

    /// The settings that nobody has asked for.
    #[cfg(test)]
    pub(super) fn unread(&self) -> Vec<&'static str> {
        let unread = self
            .values
            .iter()
            .filter(|(_, setting)| !setting.is_read.get());
        unread.map(|(name, _)| *name).collect()
    }

    /// A duration whose zero means "off".
    pub(super) fn unless_zero(&self, name: &str) -> Result<Option<Duration>, ConfigError> {
        let duration: Duration = self.get(name)?;
        Ok(Some(duration).filter(|duration| !duration.is_zero()))
    }

    /// An error about the value of one setting.
    pub(super) fn bad(&self, name: &str, reason: impl Into<String>) -> ConfigError {
        let value = match (flags::find(name), self.values.get(name)) {
            (Some(flag), Some(setting)) => show_value(flag, &setting.value),
            _ => String::new(),
        };
        ConfigError::BadValue {
            place: self.place(name),
            value,
            reason: reason.into(),
        }
    }
}

/// A value as errors show it: quoted, and hidden if it is a secret.
pub(super) fn show_value(flag: &Flag, value: &Value) -> String {
    flag.hide_secret(match value {
        Value::Bool(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Duration(value) => super::duration::format(*value),
        Value::Text(value) => format!("{value:?}"),
        Value::List(value) => format!("{:?}", value.join(",")),
        Value::Urls(value) => format!("{:?}", value.to_string()),
    })
}
