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

use super::cli::GivenFlag;
use super::error::ConfigError;
use super::flags::{CONFIG_FILE_FLAG, CONFIG_FLAG};
use super::given::{Given, Target};
use super::settings::{Place, Settings, Warning};
use super::value::Value;
use super::{environment, etcd_file, rusd_toml};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};

/// How a configuration file is read; tests have their own.
pub type ReadFile<'a> = &'a dyn Fn(&Path) -> io::Result<String>;

/// What flags and variables are put over.
enum Base {
    Defaults,
    RusdToml(PathBuf),
    /// Flags and variables are ignored.
    EtcdFile(PathBuf),
}

/// Merges all layers.
pub(super) fn settle(
    given: Vec<GivenFlag>,
    env: &HashMap<String, String>,
    read: ReadFile<'_>,
) -> Result<Settings, ConfigError> {
    let mut settings = Settings::defaults()?;
    match base(&given, env)? {
        Base::Defaults => {}
        Base::RusdToml(path) => {
            let text = read_text(&path, read)?;
            rusd_toml::apply(&mut settings, &path, &text)?;
        }
        Base::EtcdFile(path) => {
            settings.from_etcd_file = true;
            warn_of_ignored(&given, &mut settings);
            let text = read_text(&path, read)?;
            etcd_file::apply(&mut settings, &path, &text)?;
            return Ok(settings);
        }
    }
    refuse_empty_variables(&given, env)?;
    let flags: Vec<Given> = given.into_iter().filter_map(Given::by_flag).collect();
    let variables = environment::given(env, &mut settings)?;
    apply(&mut settings, flags, variables)?;
    Ok(settings)
}

/// Which file is asked for.
fn base(given: &[GivenFlag], env: &HashMap<String, String>) -> Result<Base, ConfigError> {
    let flag = |name: &str| {
        let flag = given.iter().find(|flag| flag.name == name);
        flag.map(|flag| flag.value.clone())
            .filter(|path| !path.is_empty())
    };
    let variable = |name: &str| env.get(name).filter(|value| !value.is_empty()).cloned();
    let etcd_file = flag(CONFIG_FILE_FLAG)
        .or_else(|| variable("ETCD_CONFIG_FILE"))
        .or_else(|| variable("RUSD_CONFIG_FILE"));
    match (etcd_file, flag(CONFIG_FLAG), variable("RUSD_CONFIG")) {
        (Some(_), Some(_), _) => Err(ConfigError::Rule(
            "--config and --config-file are two different base configurations: give one of them"
                .to_owned(),
        )),
        (Some(path), None, _) => Ok(Base::EtcdFile(path.into())),
        (None, Some(_), Some(_)) => Err(ConfigError::FlagAndVariable {
            flag: format!("--{CONFIG_FLAG}"),
            variable: "RUSD_CONFIG".to_owned(),
        }),
        (None, Some(path), None) | (None, None, Some(path)) => Ok(Base::RusdToml(path.into())),
        (None, None, None) => Ok(Base::Defaults),
    }
}

/// Reads a configuration file as text.
fn read_text(path: &Path, read: ReadFile<'_>) -> Result<String, ConfigError> {
    read(path).map_err(|error| ConfigError::File {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// Names the flags beside etcd's own configuration file.
fn warn_of_ignored(given: &[GivenFlag], settings: &mut Settings) {
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
}

/// An empty variable counts as unset, except beside its flag: there etcd refuses it like any other.
fn refuse_empty_variables(
    given: &[GivenFlag],
    env: &HashMap<String, String>,
) -> Result<(), ConfigError> {
    for flag in given {
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
    Ok(())
}

/// Puts flags and variables over what is there.
fn apply(
    settings: &mut Settings,
    flags: Vec<Given>,
    variables: Vec<Given>,
) -> Result<(), ConfigError> {
    let mut seen: BTreeMap<&'static str, (Value, Place)> = BTreeMap::new();
    for given in flags.into_iter().chain(variables) {
        let value = given.value()?;
        let Given {
            target,
            spelling,
            place,
            ..
        } = given;
        let name = target.name();
        match (seen.get(name), &place) {
            (Some((_, Place::Flag(flag))), Place::Variable(variable)) => {
                return Err(ConfigError::FlagAndVariable {
                    flag: format!("--{flag}"),
                    variable: variable.clone(),
                });
            }
            (Some((earlier, first)), _) if *earlier != value => {
                return Err(ConfigError::Disagreement {
                    first: first.show(name),
                    second: place.show(name),
                });
            }
            _ => {}
        }
        seen.insert(name, (value.clone(), place.clone()));
        target.put(settings, &spelling, value, place);
    }
    Ok(())
}
