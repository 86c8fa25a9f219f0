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
pub(super) fn build(settings: &mut Settings) -> Result<Config, ConfigError> {
    settings.check_statuses()?;
    let gates = gates(settings)?;
    let member = member::member(settings)?;
    let listen = member::listen(settings)?;
    let cluster = cluster::cluster(settings, &member.name)?;
    let raft = cluster::raft(settings)?;
    let log = cluster::log(settings)?;
    let storage = storage::storage(settings)?;
    let compaction = storage::compaction(settings)?;
    let limits = limits::limits(settings)?;
    let watch = watch(settings)?;
    cluster::check_peers(settings)?;
    let logging = logging::logging(settings)?;
    let metrics = settings.get("metrics")?;
    let reported_version = settings.get::<String>("report-version")?.parse();
    let reported_version =
        reported_version.map_err(|reason| settings.bad("report-version", reason))?;
    Ok(Config {
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
    })
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::config::flags::{self, Status};

    /// The first link of the chain from a flag to what it changes; the compiler keeps the others.
    #[test]
    fn every_setting_that_works_is_read() {
        const READ_ONLY_WITH_ROTATION: &str = "log-rotation-config-json";
        const HAS_ONE_VALUE: &str = "logger";
        let mut settings = Settings::defaults().unwrap();
        build(&mut settings).unwrap();
        let mut unread = settings.unread();
        unread.retain(|name| flags::find(name).unwrap().status == Status::Works);
        assert_eq!(unread, [READ_ONLY_WITH_ROTATION, HAS_ONE_VALUE]);
    }
}
