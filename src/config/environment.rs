//! The variables of the environment: `ETCD_NAME` and `RUSD_NAME` for the flag `--name`.

use super::error::ConfigError;
use super::flags::CONFIG_FLAG;
use super::given::{Given, Target};
use super::settings::{Place, Settings, Warning};
use config::{Environment, Map, Source, ValueKind};
use std::collections::{BTreeMap, HashMap};

/// The variables that name a setting; the others with one of the two prefixes get a warning.
pub(super) fn given(
    env: &HashMap<String, String>,
    settings: &mut Settings,
) -> Result<Vec<Given>, ConfigError> {
    let mut given = Vec::new();
    for prefix in ["ETCD", "RUSD"] {
        for (key, text) in with_prefix(env, prefix)? {
            match variable(prefix, &key, text) {
                Ok(found) => given.extend(found),
                Err(warning) => settings.warnings.push(warning),
            }
        }
    }
    Ok(given)
}

/// The variables with a prefix, by what follows it, in small letters. An empty one counts as unset.
fn with_prefix(
    env: &HashMap<String, String>,
    prefix: &str,
) -> Result<BTreeMap<String, String>, ConfigError> {
    // The source folds case; variables of other cases are none of ours.
    let is_ours = |name: &str| name.starts_with(prefix) && !name.contains(char::is_lowercase);
    let ours: Map<String, String> = env
        .iter()
        .filter(|(name, _)| is_ours(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let source = Environment::with_prefix(prefix)
        .prefix_separator("_")
        .ignore_empty(true)
        .source(Some(ours));
    let collected = source
        .collect()
        .map_err(|error| ConfigError::Rule(error.to_string()))?;
    let texts = collected
        .into_iter()
        .filter_map(|(key, value)| match value.kind {
            ValueKind::String(text) => Some((key, text)),
            _ => None,
        });
    Ok(texts.collect())
}

/// What a variable gives. The one that names a configuration file gives nothing here.
fn variable(prefix: &str, key: &str, text: String) -> Result<Option<Given>, Warning> {
    let variable = format!("{prefix}_{}", key.to_uppercase());
    let unrecognized = format!("unrecognized environment variable {variable}");
    let name = key.replace('_', "-");
    // A key with a dash could only come from a variable with one, which no shell can set.
    let target = Target::of(&name).filter(|_| !key.contains('-'));
    match target {
        Some(Target::Setting(flag)) if prefix == "ETCD" && !flag.is_etcds() => {
            let suffix = flag.variable_suffix();
            Err(Warning::new(format!(
                "{unrecognized}: etcd has no such setting, the variable is RUSD_{suffix}"
            )))
        }
        Some(target) => Ok(Some(Given {
            target,
            spelling: name,
            place: Place::Variable(variable),
            text,
        })),
        None if prefix == "RUSD" && name == CONFIG_FLAG => Ok(None),
        None => Err(Warning::new(unrecognized)),
    }
}
