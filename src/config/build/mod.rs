//! From flat settings to the typed configuration, with the rules that concern several settings: one file per room.

mod cluster;
mod limits;
mod logging;
mod member;
mod storage;

use super::error::ConfigError;
use super::gates::{FeatureGates, Gate};
use super::model::{Config, Watch};
use super::settings::{Settings, Warning};
use std::time::Duration;

fn rule(text: impl Into<String>) -> ConfigError {
    ConfigError::Rule(text.into())
}

/// Builds the configuration.
pub(super) fn build(mut settings: Settings) -> Result<(Config, Vec<Warning>), ConfigError> {
    settings.check_statuses()?;
    let gates = gates(&mut settings)?;
    let member = member::member(&mut settings)?;
    let listen = member::listen(&settings)?;
    let cluster = cluster::cluster(&settings, &member.name)?;
    let raft = cluster::raft(&settings)?;
    let log = cluster::log(&settings)?;
    let storage = storage::storage(&settings)?;
    let compaction = storage::compaction(&settings)?;
    let limits = limits::limits(&mut settings)?;
    let watch = watch(&settings)?;
    cluster::check_peers(&mut settings)?;
    let logging = logging::logging(&settings)?;
    let metrics = settings.get("metrics")?;
    let reported_version = settings.get::<String>("report-version")?.parse();
    let reported_version =
        reported_version.map_err(|reason| settings.bad("report-version", reason))?;
    let config = Config {
        member,
        listen,
        cluster,
        raft,
        log,
        storage,
        compaction,
        limits,
        watch,
        logging,
        metrics,
        gates,
        reported_version,
    };
    Ok((config, settings.warnings))
}

fn gates(settings: &mut Settings) -> Result<FeatureGates, ConfigError> {
    let parsed = FeatureGates::parse(&settings.get::<String>("feature-gates")?);
    let mut gates = parsed.map_err(|reason| settings.bad("feature-gates", reason))?;
    for (gate, enabled, place) in std::mem::take(&mut settings.gates) {
        if gates.name_gate(gate, enabled) {
            return Err(ConfigError::Disagreement {
                first: format!(
                    "{}={} in {}",
                    gate.as_str(),
                    !enabled,
                    settings.place("feature-gates")
                ),
                second: place.show(gate.as_str()),
            });
        }
    }
    let without_effect: Vec<Warning> = gates
        .named()
        .filter_map(|(gate, _)| {
            let reason = gate.without_effect()?;
            Some(Warning::new(format!(
                "the feature gate {} has no effect: {reason}",
                gate.as_str()
            )))
        })
        .collect();
    settings.warnings.extend(without_effect);
    if gates.enabled(Gate::LeaseCheckpointPersist) && !gates.enabled(Gate::LeaseCheckpoint) {
        return Err(rule(
            "the feature gate LeaseCheckpointPersist needs LeaseCheckpoint: enable both in --feature-gates",
        ));
    }
    Ok(gates)
}

fn watch(settings: &Settings) -> Result<Watch, ConfigError> {
    Ok(Watch {
        progress_notify_interval: settings
            .unless_zero("watch-progress-notify-interval")?
            .unwrap_or(Duration::from_secs(600)),
        ring_bytes: settings.get("watch-ring-bytes")?,
    })
}
