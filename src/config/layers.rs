//! From files, variables and flags to settings.
//!
//! ```text
//!   --config-file (etcd's YAML) given?
//!        yes: the file over the defaults; flags and variables are ignored (F-04)
//!        no:  flags, variables           one setting may be in only one of the two (F-03)
//!               over rusd.toml           (--config, RUSD_CONFIG)
//!                 over the defaults
//! ```
//!
//! A value in `rusd.toml` that equals the default counts as not given: the documented file lists every key at its
//! default, and starting with it is the same as starting without.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use config::{FileFormat, Map, Source, ValueKind};

use super::cli::GivenFlag;
use super::error::ConfigError;
use super::etcd_file;
use super::flags::{self, Alias, Flag, LEGACY, Section};
use super::gates::Gate;
use super::settings::{Place, Settings, Warning};
use super::value::{Kind, Value, parse_bool};
use super::{CONFIG_FILE_FLAG, CONFIG_FLAG, ReadFile};

/// What a given value is for. Two spellings of one setting have the same target.
#[derive(Clone, Copy, Debug)]
enum Target {
    Setting(&'static Flag),
    Gate(Gate),
    Legacy(&'static str),
}

impl Target {
    /// The target of a flag's name in any spelling.
    fn of(name: &str) -> Option<Target> {
        if let Some(flag) = flags::find(name) {
            return Some(Target::Setting(flag));
        }
        match flags::find_alias(name) {
            Some(Alias::Flag(target)) => flags::find(target).map(Target::Setting),
            Some(Alias::Gate(gate)) => Gate::from_name(gate).map(Target::Gate),
            None => LEGACY
                .iter()
                .find(|legacy| **legacy == name)
                .map(|legacy| Target::Legacy(legacy)),
        }
    }

    /// The name that the target's spellings share.
    fn name(&self) -> &'static str {
        match self {
            Target::Setting(flag) => flag.name,
            Target::Gate(gate) => gate.name(),
            Target::Legacy(name) => name,
        }
    }
}

/// One given value.
struct Given {
    target: Target,
    /// The flag in the spelling used, without dashes.
    spelling: String,
    place: Place,
    text: String,
}

impl Given {
    /// The value as its target reads it.
    fn value(&self) -> Result<Value, ConfigError> {
        let read = match self.target {
            // An empty list of URLs leaves the default in place, as in etcd.
            Target::Setting(flag) if flag.kind == Kind::Urls && self.text.is_empty() => {
                flag.kind.parse(flag.default)
            }
            Target::Setting(flag) => flag.kind.parse(&self.text),
            Target::Gate(_) => parse_bool(&self.text).map(Value::Bool),
            Target::Legacy(_) => Ok(Value::Text(self.text.clone())),
        };
        read.map_err(|reason| {
            let secret = matches!(self.target, Target::Setting(flag) if flag.is_secret());
            ConfigError::BadValue {
                place: self.place.show(self.target.name()),
                value: if secret {
                    "(hidden)".to_owned()
                } else {
                    format!("{:?}", self.text)
                },
                reason,
            }
        })
    }
}

/// Merges all layers.
pub(super) fn settle(
    given: Vec<GivenFlag>,
    env: &HashMap<String, String>,
    read: ReadFile<'_>,
) -> Result<Settings, ConfigError> {
    let flag_text = |name: &str| {
        given
            .iter()
            .find(|flag| flag.name == name)
            .map(|flag| flag.value.clone())
    };
    let variable = |name: &str| env.get(name).filter(|value| !value.is_empty()).cloned();

    let etcd_file = flag_text(CONFIG_FILE_FLAG).filter(|path| !path.is_empty());
    let etcd_file = etcd_file
        .or_else(|| variable("ETCD_CONFIG_FILE"))
        .or_else(|| variable("RUSD_CONFIG_FILE"));
    let toml_flag = flag_text(CONFIG_FLAG).filter(|path| !path.is_empty());
    let mut settings = Settings::defaults()?;

    if let Some(path) = etcd_file {
        if toml_flag.is_some() {
            return Err(ConfigError::Rule(
                "--config and --config-file are two different base configurations: give one of them".to_owned(),
            ));
        }
        let ignored: Vec<String> = given
            .iter()
            .filter(|flag| flag.name != CONFIG_FILE_FLAG)
            .map(|flag| format!("--{}", flag.name))
            .collect();
        if !ignored.is_empty() {
            settings.warnings.push(Warning::new(format!(
                "{} ignored: with --config-file every other flag and variable is",
                ignored.join(", ")
            )));
        }
        settings.from_etcd_file = true;
        let path = PathBuf::from(path);
        let text = read_text(&path, read)?;
        etcd_file::apply(&mut settings, &path, &text)?;
        return Ok(settings);
    }

    let toml_variable = variable("RUSD_CONFIG");
    if toml_flag.is_some() && toml_variable.is_some() {
        return Err(ConfigError::FlagAndVariable {
            flag: format!("--{CONFIG_FLAG}"),
            variable: "RUSD_CONFIG".to_owned(),
        });
    }
    if let Some(path) = toml_flag.or(toml_variable) {
        let path = PathBuf::from(path);
        let text = read_text(&path, read)?;
        apply_toml(&mut settings, &path, &text)?;
    }

    // An empty variable counts as unset, except beside its flag: there etcd refuses it like any other.
    for flag in &given {
        if let Some(Target::Setting(setting)) = Target::of(&flag.name) {
            let variable = format!("ETCD_{}", setting.variable_suffix());
            if setting.is_etcds() && env.get(&variable).is_some_and(String::is_empty) {
                return Err(ConfigError::FlagAndVariable {
                    flag: format!("--{}", flag.name),
                    variable,
                });
            }
        }
    }
    let flags_given = given
        .into_iter()
        .filter_map(|flag| {
            let target = Target::of(&flag.name)?;
            Some(Given {
                target,
                place: Place::Flag(flag.name.clone()),
                spelling: flag.name,
                text: flag.value,
            })
        })
        .collect();
    let variables_given = variables(env, &mut settings)?;
    apply_given(&mut settings, flags_given, variables_given)?;
    Ok(settings)
}

/// Reads a configuration file as text.
fn read_text(path: &Path, read: ReadFile<'_>) -> Result<String, ConfigError> {
    read(path).map_err(|error| ConfigError::File {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// The variables with one of the two prefixes that name a setting; the others get a warning.
fn variables(
    env: &HashMap<String, String>,
    settings: &mut Settings,
) -> Result<Vec<Given>, ConfigError> {
    let mut given = Vec::new();
    for prefix in ["ETCD", "RUSD"] {
        // The environment source of the `config` crate folds case; variables of other cases are none of ours.
        let ours: Map<String, String> = env
            .iter()
            .filter(|(name, _)| {
                name.starts_with(prefix) && !name.contains(|c: char| c.is_lowercase())
            })
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let source = config::Environment::with_prefix(prefix)
            .prefix_separator("_")
            .ignore_empty(true)
            .source(Some(ours));
        let collected = source
            .collect()
            .map_err(|error| ConfigError::Rule(error.to_string()))?;
        let sorted: BTreeMap<String, config::Value> = collected.into_iter().collect();
        for (key, value) in sorted {
            let ValueKind::String(text) = value.kind else {
                continue;
            };
            let variable = format!("{prefix}_{}", key.to_uppercase());
            let name = key.replace('_', "-");
            // A key with a dash could only come from a variable with one, which no shell can set.
            let target = if key.contains('-') {
                None
            } else {
                Target::of(&name)
            };
            match target {
                Some(Target::Setting(flag)) if prefix == "ETCD" && !flag.is_etcds() => {
                    settings.warnings.push(Warning::new(format!(
                        "unrecognized environment variable {variable}: etcd has no such setting, the variable is RUSD_{}",
                        flag.variable_suffix()
                    )));
                }
                Some(target) => {
                    given.push(Given {
                        target,
                        spelling: name,
                        place: Place::Variable(variable),
                        text,
                    });
                }
                None if prefix == "RUSD" && name == CONFIG_FLAG => {}
                None => {
                    settings.warnings.push(Warning::new(format!(
                        "unrecognized environment variable {variable}"
                    )));
                }
            }
        }
    }
    Ok(given)
}

/// Puts flags and variables over what is there.
fn apply_given(
    settings: &mut Settings,
    flags: Vec<Given>,
    variables: Vec<Given>,
) -> Result<(), ConfigError> {
    let mut seen: BTreeMap<&'static str, (Value, Place)> = BTreeMap::new();
    for given in flags.into_iter().chain(variables) {
        let value = given.value()?;
        let name = given.target.name();
        if let Some((earlier_value, earlier_place)) = seen.get(name) {
            match (earlier_place, &given.place) {
                (Place::Flag(flag), Place::Variable(variable)) => {
                    return Err(ConfigError::FlagAndVariable {
                        flag: format!("--{flag}"),
                        variable: variable.clone(),
                    });
                }
                (earlier, _) if *earlier_value != value => {
                    return Err(ConfigError::Disagreement {
                        first: earlier.show(name),
                        second: given.place.show(name),
                    });
                }
                _ => {}
            }
        }
        seen.insert(name, (value.clone(), given.place.clone()));
        put(settings, &given.target, &given.spelling, value, given.place);
    }
    Ok(())
}

/// Sets one target, with the warnings that its spelling deserves.
pub(super) fn put_named(
    settings: &mut Settings,
    spelling: &str,
    place: Place,
    read: impl FnOnce(Kind) -> Result<Option<Value>, String>,
    show: &str,
) -> Result<bool, ConfigError> {
    let Some(target) = Target::of(spelling) else {
        return Ok(false);
    };
    let kind = match target {
        Target::Setting(flag) => flag.kind,
        Target::Gate(_) => Kind::Bool,
        Target::Legacy(_) => return Ok(false),
    };
    let secret = matches!(target, Target::Setting(flag) if flag.is_secret());
    let value = read(kind).map_err(|reason| ConfigError::BadValue {
        place: place.show(target.name()),
        value: if secret {
            "(hidden)".to_owned()
        } else {
            show.to_owned()
        },
        reason,
    })?;
    if let Some(value) = value {
        put(settings, &target, spelling, value, place);
    }
    Ok(true)
}

fn put(settings: &mut Settings, target: &Target, spelling: &str, value: Value, place: Place) {
    if flags::find_alias(spelling).is_some() {
        let shown = place.show(spelling);
        let advice = match target {
            Target::Gate(gate) => format!(
                "--feature-gates={}={}",
                gate.name(),
                value == Value::Bool(true)
            ),
            other => format!("--{}", other.name()),
        };
        settings
            .warnings
            .push(Warning::new(format!("{shown} is deprecated: use {advice}")));
    }
    match target {
        Target::Setting(flag) => settings.set(flag, value, place),
        Target::Gate(gate) => settings
            .gates
            .push((*gate, value == Value::Bool(true), place)),
        Target::Legacy(name) => {
            let shown = place.show(name);
            settings.warnings.push(Warning::new(format!(
                "{shown} is no longer supported and is ignored"
            )));
        }
    }
}

/// Puts `rusd.toml` over the defaults.
fn apply_toml(settings: &mut Settings, path: &Path, text: &str) -> Result<(), ConfigError> {
    let file = config::File::from_str(text, FileFormat::Toml);
    let tables = file.collect().map_err(|error| ConfigError::File {
        path: path.to_owned(),
        reason: error.to_string().trim_end().to_owned(),
    })?;
    let tables: BTreeMap<String, config::Value> = tables.into_iter().collect();
    for (section_key, table) in tables {
        let place = |key: &str| format!("{key} in {}", path.display());
        let Some(section) = Section::ALL
            .into_iter()
            .find(|section| section.key() == section_key)
        else {
            return Err(ConfigError::UnknownKey {
                place: place(&section_key),
                hint: hint(&section_key),
            });
        };
        let ValueKind::Table(keys) = table.kind else {
            return Err(ConfigError::UnknownKey {
                place: place(&section_key),
                hint: format!(": [{section_key}] is a section"),
            });
        };
        let keys: BTreeMap<String, config::Value> = keys.into_iter().collect();
        for (key, value) in keys {
            let full = place(&format!("{section_key}.{key}"));
            let Some(flag) = flags::find(&key).filter(|flag| flag.section == section) else {
                return Err(ConfigError::UnknownKey {
                    place: full,
                    hint: hint(&key),
                });
            };
            let value = toml_value(flag.kind, value.kind).map_err(|(shown, reason)| {
                ConfigError::BadValue {
                    place: full.clone(),
                    value: if flag.is_secret() {
                        "(hidden)".to_owned()
                    } else {
                        shown
                    },
                    reason,
                }
            })?;
            if !Settings::is_default(flag, &value) {
                settings.set(flag, value, Place::File(full));
            }
        }
    }
    Ok(())
}

/// Where a misplaced key belongs, for an error message.
fn hint(key: &str) -> String {
    match Target::of(key) {
        Some(Target::Setting(flag)) if flag.name == key => {
            format!(": {key} belongs to the section [{}]", flag.section.key())
        }
        Some(Target::Setting(flag)) => format!(
            ": it is {} in the section [{}]",
            flag.name,
            flag.section.key()
        ),
        Some(Target::Gate(gate)) => format!(
            ": switch the feature gate {} in member.feature-gates",
            gate.name()
        ),
        Some(Target::Legacy(_)) | None => String::new(),
    }
}

/// A TOML value as its kind wants it, or the value as shown and what is wrong with it.
fn toml_value(kind: Kind, value: ValueKind) -> Result<Value, (String, String)> {
    let shown = match &value {
        ValueKind::String(text) => format!("{text:?}"),
        ValueKind::Array(_) => "a list".to_owned(),
        ValueKind::Table(_) => "a table".to_owned(),
        other => other.to_string(),
    };
    let wrong = |wanted: &str| Err((shown.clone(), format!("it must be {wanted}")));
    let text = match (kind, value) {
        (Kind::Bool, ValueKind::Boolean(value)) => return Ok(Value::Bool(value)),
        (Kind::Bool, _) => return wrong("true or false, without quotes"),
        (Kind::Uint(_) | Kind::Int, ValueKind::I64(number)) => number.to_string(),
        (Kind::Uint(_) | Kind::Int, _) => return wrong("a whole number, without quotes"),
        (Kind::Duration, ValueKind::String(text)) => text,
        (Kind::Duration, _) => return wrong("a duration in quotes, such as \"5s\""),
        (Kind::Text, ValueKind::I64(number)) => number.to_string(),
        (
            Kind::Text
            | Kind::Choice(_)
            | Kind::Word(_)
            | Kind::Gates
            | Kind::List
            | Kind::Urls
            | Kind::Origins,
            ValueKind::String(text),
        ) => text,
        (Kind::List | Kind::Urls | Kind::Origins, ValueKind::Array(items)) => {
            let mut texts = Vec::new();
            for item in items {
                match item.kind {
                    ValueKind::String(text) if !text.contains(',') => texts.push(text),
                    _ => return wrong("a list of texts in quotes"),
                }
            }
            texts.join(",")
        }
        (Kind::List | Kind::Urls | Kind::Origins, _) => return wrong("a list of texts in quotes"),
        (Kind::Text | Kind::Choice(_) | Kind::Word(_) | Kind::Gates, _) => {
            return wrong("a text in quotes");
        }
    };
    kind.parse(&text).map_err(|reason| (shown, reason))
}
