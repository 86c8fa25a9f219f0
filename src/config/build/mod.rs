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
    let metrics = settings.choice("metrics")?;
    let reported_version = settings.text("report-version")?.parse();
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
    let parsed = FeatureGates::parse(settings.text("feature-gates")?);
    let mut gates = parsed.map_err(|reason| settings.bad("feature-gates", reason))?;
    for (gate, enabled, place) in std::mem::take(&mut settings.gates) {
        if gates.name_gate(gate, enabled) {
            return Err(ConfigError::Disagreement {
                first: format!(
                    "{}={} in {}",
                    gate.name(),
                    !enabled,
                    settings.place("feature-gates")
                ),
                second: place.show(gate.name()),
            });
        }
    }
    let without_effect: Vec<Warning> = gates
        .named()
        .filter_map(|(gate, _)| {
            let reason = gate.without_effect()?;
            Some(Warning::new(format!(
                "the feature gate {} has no effect: {reason}",
                gate.name()
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
    const INTERVAL: &str = "watch-progress-notify-interval";
    Ok(Watch {
        progress_notify_interval: or_default(settings, INTERVAL, Duration::from_secs(600))?,
        ring_bytes: settings.uint("watch-ring-bytes")?,
    })
}

/// A duration whose zero means the default.
fn or_default(settings: &Settings, name: &str, default: Duration) -> Result<Duration, ConfigError> {
    Ok(match settings.duration(name)? {
        Duration::ZERO => default,
        duration => duration,
    })
}

fn positive(duration: Duration) -> Option<Duration> {
    (!duration.is_zero()).then_some(duration)
}
