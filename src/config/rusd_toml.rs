//! `rusd.toml`: a table for each section of settings, a key for each setting.

use super::error::ConfigError;
use super::flags::{self, Flag, Section};
use super::given::Target;
use super::settings::{Place, Settings};
use super::value::{Kind, Value};
use config::{File, FileFormat, Source, ValueKind};
use std::collections::BTreeMap;
use std::path::Path;

/// Puts the file over the defaults. A value that equals its default counts as not given.
pub(super) fn apply(settings: &mut Settings, path: &Path, text: &str) -> Result<(), ConfigError> {
    let tables = File::from_str(text, FileFormat::Toml)
        .collect()
        .map_err(|error| ConfigError::File {
            path: path.to_owned(),
            reason: error.to_string().trim_end().to_owned(),
        })?;
    let place = |key: &str| format!("{key} in {}", path.display());
    let unknown = |key: &str, hint: String| ConfigError::UnknownKey {
        place: place(key),
        hint,
    };
    for (section_key, table) in tables.into_iter().collect::<BTreeMap<_, _>>() {
        let section = Section::of_word(&section_key)
            .ok_or_else(|| unknown(&section_key, hint(&section_key)))?;
        let ValueKind::Table(keys) = table.kind else {
            let hint = format!(": [{section_key}] is a section");
            return Err(unknown(&section_key, hint));
        };
        for (key, value) in keys.into_iter().collect::<BTreeMap<_, _>>() {
            let full = format!("{section_key}.{key}");
            let flag = flags::find(&key)
                .filter(|flag| flag.section == section)
                .ok_or_else(|| unknown(&full, hint(&key)))?;
            set(settings, flag, place(&full), value.kind)?;
        }
    }
    Ok(())
}

/// Sets one setting.
fn set(
    settings: &mut Settings,
    flag: &'static Flag,
    place: String,
    value: ValueKind,
) -> Result<(), ConfigError> {
    let value = typed(flag.kind, value).map_err(|(shown, reason)| ConfigError::BadValue {
        place: place.clone(),
        value: flag.hide_secret(shown),
        reason,
    })?;
    if !Settings::is_default(flag, &value) {
        settings.set(flag, value, Place::File(place));
    }
    Ok(())
}

/// Where a misplaced key belongs, for an error message.
fn hint(key: &str) -> String {
    match Target::of(key) {
        Some(Target::Setting(flag)) => {
            let section = flag.section.as_str();
            if flag.name == key {
                format!(": {key} belongs to the section [{section}]")
            } else {
                format!(": it is {} in the section [{section}]", flag.name)
            }
        }
        Some(Target::Gate(gate)) => {
            let name = gate.as_str();
            format!(": switch the feature gate {name} in member.feature-gates")
        }
        Some(Target::Legacy(_)) | None => String::new(),
    }
}

/// A TOML value as its kind wants it, or the value as shown and what is wrong with it.
fn typed(kind: Kind, value: ValueKind) -> Result<Value, (String, String)> {
    let shown = match &value {
        ValueKind::String(text) => format!("{text:?}"),
        ValueKind::Array(_) => "a list".to_owned(),
        ValueKind::Table(_) => "a table".to_owned(),
        other => other.to_string(),
    };
    let text = match (kind, value) {
        (Kind::Bool, ValueKind::Boolean(value)) => return Ok(Value::Bool(value)),
        (Kind::Uint(_) | Kind::Int | Kind::Text, ValueKind::I64(number)) => {
            Some(number.to_string())
        }
        (Kind::Bool | Kind::Uint(_) | Kind::Int, _) => None,
        (_, ValueKind::String(text)) => Some(text),
        (Kind::List | Kind::Urls | Kind::Origins, ValueKind::Array(items)) => {
            let texts = items.into_iter().map(|item| match item.kind {
                ValueKind::String(text) if !text.contains(',') => Some(text),
                _ => None,
            });
            let texts: Option<Vec<String>> = texts.collect();
            texts.map(|texts| texts.join(","))
        }
        _ => None,
    };
    let wanted = match kind {
        Kind::Bool => "true or false, without quotes",
        Kind::Uint(_) | Kind::Int => "a whole number, without quotes",
        Kind::Duration => "a duration in quotes, such as \"5s\"",
        Kind::List | Kind::Urls | Kind::Origins => "a list of texts in quotes",
        Kind::Text | Kind::Choice(_) | Kind::Word(_) | Kind::Gates => "a text in quotes",
    };
    match text {
        Some(text) => kind.parse(&text).map_err(|reason| (shown, reason)),
        None => Err((shown, format!("it must be {wanted}"))),
    }
}
