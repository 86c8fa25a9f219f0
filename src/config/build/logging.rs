//! The log: what is written, in which form, and where to.

use super::rule;
use crate::config::error::ConfigError;
use crate::config::model::{LogOutput, LogRotation, Logging};
use crate::config::settings::Settings;
use serde::Deserialize;
use std::path::PathBuf;

pub(super) fn logging(settings: &Settings) -> Result<Logging, ConfigError> {
    let outputs = outputs(settings)?;
    let rotation = if settings.get("enable-log-rotation")? {
        let files = outputs
            .iter()
            .filter(|output| matches!(output, LogOutput::File(_)))
            .count();
        if files != 1 {
            return Err(rule(format!(
                "--enable-log-rotation needs exactly one file in --log-outputs; there are {files}"
            )));
        }
        Some(rotation(settings)?)
    } else {
        None
    };
    Ok(Logging {
        level: settings.get("log-level")?,
        format: settings.get("log-format")?,
        outputs,
        rotation,
    })
}

fn outputs(settings: &Settings) -> Result<Vec<LogOutput>, ConfigError> {
    let names: Vec<String> = settings.get("log-outputs")?;
    let mut outputs: Vec<LogOutput> = Vec::new();
    for name in &names {
        let output = match name.as_str() {
            "default" if names.len() > 1 => {
                return Err(
                    settings.bad("log-outputs", "default stands alone: name stderr instead")
                );
            }
            "default" | "stderr" => LogOutput::Stderr,
            "stdout" => LogOutput::Stdout,
            "systemd/journal" => {
                return Err(ConfigError::NotBuilt {
                    place: settings.place("log-outputs"),
                    value: format!("{name:?}"),
                    feature: "writing to the journal is".to_owned(),
                });
            }
            "" => return Err(settings.bad("log-outputs", "one of the outputs is empty")),
            path => LogOutput::File(PathBuf::from(path)),
        };
        if !outputs.contains(&output) {
            outputs.push(output);
        }
    }
    if outputs.is_empty() {
        outputs.push(LogOutput::Stderr);
    }
    Ok(outputs)
}

/// `--log-rotation-config-json`, in the words of the log writer that etcd uses.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RotationJson {
    maxsize: u32,
    maxage: u32,
    maxbackups: u32,
    localtime: bool,
    compress: bool,
}

impl Default for RotationJson {
    fn default() -> Self {
        RotationJson {
            maxsize: 100,
            maxage: 0,
            maxbackups: 0,
            localtime: false,
            compress: false,
        }
    }
}

fn rotation(settings: &Settings) -> Result<LogRotation, ConfigError> {
    const NAME: &str = "log-rotation-config-json";
    let json: RotationJson = serde_json::from_str(&settings.get::<String>(NAME)?)
        .map_err(|error| settings.bad(NAME, error.to_string()))?;
    for (field, asked, feature) in [
        (
            "localtime",
            json.localtime,
            "local time in the names of old log files is",
        ),
        ("compress", json.compress, "compression of old log files is"),
    ] {
        if asked {
            return Err(ConfigError::NotBuilt {
                place: settings.place(NAME),
                value: format!("{field}=true"),
                feature: feature.to_owned(),
            });
        }
    }
    let megabytes = if json.maxsize == 0 { 100 } else { json.maxsize };
    Ok(LogRotation {
        max_size_bytes: u64::from(megabytes) * 1024 * 1024,
        max_age_days: Some(json.maxage).filter(|&days| days > 0),
        max_backups: Some(json.maxbackups).filter(|&count| count > 0),
    })
}
