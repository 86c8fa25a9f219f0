//! etcd's own configuration file: YAML, of which JSON is a part.
//!
//! Its keys are the flags' names, except for a few nested tables, listed in [`NESTED`]. Its types are Go's: durations
//! are **integer nanoseconds**, URL lists are one comma-separated text, and a text may be written as a number. A key
//! without a value counts as absent. Unlike etcd, which skips keys that it does not know, an unknown key is an error
//! here: a mistyped key should not start a server that behaves otherwise than its operator thinks.

use std::path::Path;
use std::time::Duration;

use serde_yaml_ng::{Number, Value as Yaml};

use super::duration::MAX_NANOS;
use super::error::ConfigError;
use super::given::Target;
use super::settings::{Place, Settings, Warning};
use super::value::{Kind, Value};

/// A nested table: its name, and each of its keys with the flag that it is.
type Nested = (&'static str, &'static [(&'static str, &'static str)]);

const NESTED: &[Nested] = &[
    (
        "client-transport-security",
        &[
            ("cert-file", "cert-file"),
            ("key-file", "key-file"),
            ("client-cert-file", "client-cert-file"),
            ("client-key-file", "client-key-file"),
            ("client-cert-auth", "client-cert-auth"),
            ("trusted-ca-file", "trusted-ca-file"),
            ("auto-tls", "auto-tls"),
            ("allowed-hostname", "client-cert-allowed-hostname"),
        ],
    ),
    (
        "peer-transport-security",
        &[
            ("cert-file", "peer-cert-file"),
            ("key-file", "peer-key-file"),
            ("client-cert-file", "peer-client-cert-file"),
            ("client-key-file", "peer-client-key-file"),
            ("client-cert-auth", "peer-client-cert-auth"),
            ("trusted-ca-file", "peer-trusted-ca-file"),
            ("auto-tls", "peer-auto-tls"),
            ("allowed-cn", "peer-cert-allowed-cn"),
            ("allowed-hostname", "peer-cert-allowed-hostname"),
            (
                "skip-client-san-verification",
                "peer-skip-client-san-verification",
            ),
        ],
    ),
    (
        "socket-options",
        &[
            ("reuse-port", "socket-reuse-port"),
            ("reuse-address", "socket-reuse-address"),
        ],
    ),
    ("discovery-config", &[("token", "discovery-token")]),
];

/// Keys of client TLS that only the file has; they must be at their defaults, as TLS is not part of this build.
const CLIENT_TLS_ONLY: &[&str] = &["allowed-cn", "skip-client-san-verification"];

/// Keys of older releases that etcd skips today and that sample files still have.
const RETIRED: &[&str] = &[
    "debug",
    "discovery-fallback",
    "enable-v2",
    "proxy",
    "proxy-dial-timeout",
    "proxy-failure-wait",
    "proxy-read-timeout",
    "proxy-refresh-interval",
    "proxy-write-timeout",
];

/// Puts the file over the defaults.
pub(super) fn apply(settings: &mut Settings, path: &Path, text: &str) -> Result<(), ConfigError> {
    let unreadable = |reason: String| ConfigError::File {
        path: path.to_owned(),
        reason,
    };
    let document: Yaml =
        serde_yaml_ng::from_str(text).map_err(|error| unreadable(error.to_string()))?;
    let keys = match document {
        Yaml::Null => return Ok(()),
        Yaml::Mapping(keys) => keys,
        _ => return Err(unreadable("it is not a table of keys".to_owned())),
    };
    for (key, value) in keys {
        let Yaml::String(key) = key else {
            return Err(unreadable(format!("the key {} is not a text", show(&key))));
        };
        if matches!(value, Yaml::Null) {
            continue;
        }
        if let Some((_, flags)) = NESTED.iter().find(|(table, _)| *table == key) {
            apply_nested(settings, path, &key, flags, value)?;
            continue;
        }
        if RETIRED.contains(&key.as_str()) {
            settings.warnings.push(Warning::new(format!(
                "{key} in {} is no longer supported and is ignored",
                path.display()
            )));
            continue;
        }
        set(settings, path, &key, &key, &value)?;
    }
    Ok(())
}

/// Sets the flag `name`, which stands in the file as `key`.
fn set(
    settings: &mut Settings,
    path: &Path,
    key: &str,
    name: &str,
    value: &Yaml,
) -> Result<(), ConfigError> {
    let place = format!("{key} in {}", path.display());
    let target = match Target::of(name) {
        Some(target @ (Target::Setting(_) | Target::Gate(_))) => target,
        Some(Target::Legacy(_)) | None => {
            return Err(ConfigError::UnknownKey {
                place,
                hint: String::new(),
            });
        }
    };
    let place = Place::File(place);
    let value = yaml_value(target.kind(), value)
        .map_err(|reason| target.refuse(&place, show(value), reason))?;
    if let Some(value) = value {
        target.put(settings, name, value, place);
    }
    Ok(())
}

/// Sets the flags of one nested table.
fn apply_nested(
    settings: &mut Settings,
    path: &Path,
    table: &str,
    flags: &[(&str, &str)],
    value: Yaml,
) -> Result<(), ConfigError> {
    let place = |key: &str| format!("{key} in {}", path.display());
    let Yaml::Mapping(keys) = value else {
        return Err(ConfigError::BadValue {
            place: place(table),
            value: show(&value),
            reason: "it must be a table of keys".to_owned(),
        });
    };
    for (key, value) in keys {
        if matches!(value, Yaml::Null) {
            continue;
        }
        let text = key.as_str().map_or_else(|| show(&key), str::to_owned);
        let full = format!("{table}.{text}");
        let key = key.as_str().unwrap_or_default();
        if let Some((_, name)) = flags.iter().find(|(known, _)| *known == key) {
            set(settings, path, &full, name, &value)?;
            continue;
        }
        let missing = match table {
            // Everything else in it describes the connection to the discovery service.
            "discovery-config" => "discovery is",
            "client-transport-security" if CLIENT_TLS_ONLY.contains(&key) => "TLS is",
            _ => {
                return Err(ConfigError::UnknownKey {
                    place: place(&full),
                    hint: String::new(),
                });
            }
        };
        if !is_zero(&value) {
            return Err(not_built(place(&full), &value, missing));
        }
    }
    Ok(())
}

fn not_built(place: String, value: &Yaml, feature: &str) -> ConfigError {
    ConfigError::NotBuilt {
        place,
        value: show(value),
        feature: feature.to_owned(),
    }
}

/// Whether a value is what Go would have without it.
fn is_zero(value: &Yaml) -> bool {
    match value {
        Yaml::Null | Yaml::Bool(false) => true,
        Yaml::String(text) => text.is_empty(),
        Yaml::Sequence(items) => items.is_empty(),
        Yaml::Mapping(keys) => keys.is_empty(),
        Yaml::Number(number) => number.as_i64() == Some(0),
        _ => false,
    }
}

/// A YAML value as its kind wants it; none if it counts as absent.
fn yaml_value(kind: Kind, value: &Yaml) -> Result<Option<Value>, String> {
    let is_word = matches!(
        kind,
        Kind::Text | Kind::Choice(_) | Kind::Word(_) | Kind::Gates
    );
    let text = match (kind, value) {
        (Kind::Bool, Yaml::Bool(value)) => return Ok(Some(Value::Bool(*value))),
        (Kind::Duration, Yaml::Number(nanos)) => return nanoseconds(nanos).map(Some),
        (Kind::Uint(_) | Kind::Int, Yaml::Number(number)) => Some(number.to_string()),
        (Kind::Bool | Kind::Duration | Kind::Uint(_) | Kind::Int, _) => None,
        // An empty text is the absence of a value wherever it could not be one.
        (_, Yaml::String(text)) if text.is_empty() && !kind.accepts_empty() => return Ok(None),
        (_, Yaml::String(text)) => Some(text.clone()),
        (_, Yaml::Number(number)) if is_word => Some(number.to_string()),
        (_, Yaml::Bool(value)) if is_word => Some(value.to_string()),
        (Kind::List, Yaml::Sequence(items)) => {
            let texts: Option<Vec<&str>> = items.iter().map(Yaml::as_str).collect();
            texts.map(|texts| texts.join(","))
        }
        _ => None,
    };
    let wanted = match kind {
        Kind::Bool => "it must be true or false",
        Kind::Duration => {
            "durations in this file are integer nanoseconds: 600000000000 for ten minutes"
        }
        Kind::Uint(_) | Kind::Int => "it must be a whole number",
        Kind::List => "it must be a list of texts",
        Kind::Urls | Kind::Origins => "it must be one text with commas between the URLs",
        Kind::Text | Kind::Choice(_) | Kind::Word(_) | Kind::Gates => "it must be a text",
    };
    kind.parse(&text.ok_or(wanted)?).map(Some)
}

fn nanoseconds(number: &Number) -> Result<Value, String> {
    let nanos = number.as_u64().filter(|&nanos| nanos <= MAX_NANOS);
    let nanos = nanos.ok_or("it must be a number of nanoseconds of at least 0")?;
    Ok(Value::Duration(Duration::from_nanos(nanos)))
}

/// A value as an error message shows it.
fn show(value: &Yaml) -> String {
    match value {
        Yaml::String(text) => format!("{text:?}"),
        Yaml::Bool(value) => value.to_string(),
        Yaml::Number(number) => number.to_string(),
        Yaml::Null => "null".to_owned(),
        Yaml::Sequence(_) => "a list".to_owned(),
        Yaml::Mapping(_) => "a table".to_owned(),
        Yaml::Tagged(_) => "a tagged value".to_owned(),
    }
}
