//! A given value: what it is for, where it stands, and how it reaches the settings.

use super::cli::GivenFlag;
use super::error::ConfigError;
use super::flags::{self, Alias, Flag, LEGACY};
use super::gates::Gate;
use super::settings::{Place, Settings, Warning};
use super::value::{Kind, Value};

/// What a given value is for. Two spellings of one setting have the same target.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    Setting(&'static Flag),
    Gate(Gate),
    Legacy(&'static str),
}

impl Target {
    /// The target of a flag's name in any spelling.
    pub(super) fn of(name: &str) -> Option<Target> {
        if let Some(flag) = flags::find(name) {
            return Some(Target::Setting(flag));
        }
        match flags::find_alias(name) {
            Some(Alias::Flag(target)) => flags::find(target).map(Target::Setting),
            Some(Alias::Gate(gate)) => Some(Target::Gate(gate)),
            None => LEGACY
                .iter()
                .find(|legacy| **legacy == name)
                .map(|legacy| Target::Legacy(legacy)),
        }
    }

    /// The name that the target's spellings share.
    pub(super) fn name(self) -> &'static str {
        match self {
            Target::Setting(flag) => flag.name,
            Target::Gate(gate) => gate.as_str(),
            Target::Legacy(name) => name,
        }
    }

    /// What it accepts.
    pub(super) fn kind(self) -> Kind {
        match self {
            Target::Setting(flag) => flag.kind,
            Target::Gate(_) => Kind::Bool,
            Target::Legacy(_) => Kind::Text,
        }
    }

    /// The error about a value that it does not accept.
    pub(super) fn refuse(self, place: &Place, shown: String, reason: String) -> ConfigError {
        ConfigError::BadValue {
            place: place.show(self.name()),
            value: match self {
                Target::Setting(flag) => flag.hide_secret(shown),
                Target::Gate(_) | Target::Legacy(_) => shown,
            },
            reason,
        }
    }

    /// Gives it a value, with the warnings that its spelling deserves.
    pub(super) fn put(self, settings: &mut Settings, spelling: &str, value: Value, place: Place) {
        let is_on = value == Value::Bool(true);
        if flags::find_alias(spelling).is_some() {
            let shown = place.show(spelling);
            let advice = match self {
                Target::Gate(gate) => format!("--feature-gates={}={is_on}", gate.as_str()),
                other => format!("--{}", other.name()),
            };
            settings
                .warnings
                .push(Warning::new(format!("{shown} is deprecated: use {advice}")));
        }
        match self {
            Target::Setting(flag) => settings.set(flag, value, place),
            Target::Gate(gate) => settings.gates.push((gate, is_on, place)),
            Target::Legacy(name) => {
                let shown = place.show(name);
                settings.warnings.push(Warning::new(format!(
                    "{shown} is no longer supported and is ignored"
                )));
            }
        }
    }
}

/// One value from the command line or the environment: there all are texts.
pub(super) struct Given {
    pub(super) target: Target,
    /// The flag in the spelling used, without dashes.
    pub(super) spelling: String,
    pub(super) place: Place,
    pub(super) text: String,
}

impl Given {
    /// A flag, unless it names a configuration file.
    pub(super) fn by_flag(flag: GivenFlag) -> Option<Self> {
        let GivenFlag { name, value } = flag;
        Some(Self {
            target: Target::of(&name)?,
            place: Place::Flag(name.clone()),
            spelling: name,
            text: value,
        })
    }

    /// The value as its target reads it.
    pub(super) fn value(&self) -> Result<Value, ConfigError> {
        let read = match self.target {
            // An empty list of URLs leaves the default in place, as in etcd.
            Target::Setting(flag) if flag.kind == Kind::Urls && self.text.is_empty() => {
                flag.kind.parse(flag.default)
            }
            target => target.kind().parse(&self.text),
        };
        read.map_err(|reason| {
            self.target
                .refuse(&self.place, format!("{:?}", self.text), reason)
        })
    }
}
