//! Feature gates: etcd's switches for features that are not settled.
//!
//! `--feature-gates=A=true,B=false` switches single gates, `AllAlpha` and `AllBeta` a whole stage; a gate named by
//! itself wins over its stage. Every gate of etcd 3.6 and 3.7 is known here, an unknown one is an error, and one that
//! has nothing to switch here gets a warning.

use std::collections::BTreeMap;
use std::fmt;

use super::choice::choice;
use super::literal::parse_bool;

choice! {
    /// One feature gate, under etcd's name.
    Gate {
        /// Compare compaction hashes between members.
        CompactHashCheck = "CompactHashCheck",
        /// Renew a lease without waiting for the applied index.
        FastLeaseKeepAlive = "FastLeaseKeepAlive",
        /// Compare the data with other members before serving.
        InitialCorruptCheck = "InitialCorruptCheck",
        /// Write what is left of long leases to the log now and then.
        LeaseCheckpoint = "LeaseCheckpoint",
        /// Keep those checkpoints over restarts, as every cluster since 3.6 does without being asked. Needs the former.
        LeaseCheckpointPersist = "LeaseCheckpointPersist",
        /// Let lease revocations pass when ordinary proposals are refused for back-pressure.
        PriorityRequest = "PriorityRequest",
        /// Dial other members from the advertised address.
        SetMemberLocalAddr = "SetMemberLocalAddr",
        /// Answer health checks with NOT_SERVING while the storage is rewritten.
        StopGrpcServiceOnDefrag = "StopGRPCServiceOnDefrag",
        /// A buffer that bbolt's transactions share.
        TxnModeWriteWithSharedBuffer = "TxnModeWriteWithSharedBuffer",
    }
}

choice! {
    /// How settled a feature is, as the metric `etcd_server_feature_enabled` says it.
    Stage {
        /// Off unless asked for.
        Alpha = "ALPHA",
        /// On unless switched off.
        Beta = "BETA",
    }
}

impl Gate {
    /// How settled its feature is.
    pub fn stage(self) -> Stage {
        match self {
            Gate::FastLeaseKeepAlive | Gate::TxnModeWriteWithSharedBuffer => Stage::Beta,
            _ => Stage::Alpha,
        }
    }

    /// Why switching it changes nothing here, if that is so.
    pub fn without_effect(self) -> Option<&'static str> {
        match self {
            Gate::TxnModeWriteWithSharedBuffer => Some("there is no bbolt file"),
            Gate::SetMemberLocalAddr => Some("a single member has no peer connections"),
            _ => None,
        }
    }
}

/// The state of all gates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeatureGates {
    /// The gates that were named, with what they were set to.
    named: BTreeMap<Gate, bool>,
    all_alpha: bool,
    all_beta: Option<bool>,
}

impl FeatureGates {
    /// Reads `A=true,B=false`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut gates = FeatureGates::default();
        for pair in text
            .split(',')
            .map(str::trim)
            .filter(|pair| !pair.is_empty())
        {
            let (name, value) = pair.split_once('=').ok_or_else(|| {
                format!("the feature gate {pair:?} needs a value: {pair}=true or {pair}=false")
            })?;
            let (name, value) = (name.trim(), value.trim());
            let enabled =
                parse_bool(value).map_err(|reason| format!("the feature gate {name}: {reason}"))?;
            match name {
                "AllAlpha" => gates.all_alpha = enabled,
                "AllBeta" => gates.all_beta = Some(enabled),
                _ => {
                    let gate = Gate::of_word(name)
                        .ok_or_else(|| format!("unknown feature gate {name:?}"))?;
                    gates.named.insert(gate, enabled);
                }
            }
        }
        Ok(gates)
    }

    /// Sets one gate by itself, as the older flags do. Says whether it disagreed with what was already named.
    pub(super) fn name_gate(&mut self, gate: Gate, enabled: bool) -> bool {
        self.named
            .insert(gate, enabled)
            .is_some_and(|before| before != enabled)
    }

    /// Whether the gate is on.
    pub fn enabled(&self, gate: Gate) -> bool {
        if let Some(&enabled) = self.named.get(&gate) {
            return enabled;
        }
        match gate.stage() {
            Stage::Alpha => self.all_alpha,
            Stage::Beta => self.all_beta.unwrap_or(true),
        }
    }

    /// The gates that were named one by one.
    pub(super) fn named(&self) -> impl Iterator<Item = (Gate, bool)> + '_ {
        self.named.iter().map(|(gate, enabled)| (*gate, *enabled))
    }

    /// Every gate with its stage and state, the two group switches included, as the metric
    /// `etcd_server_feature_enabled` shows them.
    pub fn states(&self) -> Vec<(&'static str, Stage, bool)> {
        let groups = [
            ("AllAlpha", Stage::Alpha, self.all_alpha),
            ("AllBeta", Stage::Beta, self.all_beta.unwrap_or(false)),
        ];
        groups
            .into_iter()
            .chain(
                Gate::ALL
                    .iter()
                    .map(|gate| (gate.as_str(), gate.stage(), self.enabled(*gate))),
            )
            .collect()
    }
}

impl fmt::Display for FeatureGates {
    /// What was switched, in the form in which it is given.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups = [
            ("AllAlpha", self.all_alpha.then_some(true)),
            ("AllBeta", self.all_beta),
        ];
        let groups = groups
            .into_iter()
            .filter_map(|(name, state)| state.map(|enabled| (name, enabled)));
        let named = self.named().map(|(gate, enabled)| (gate.as_str(), enabled));
        for (position, (name, enabled)) in groups.chain(named).enumerate() {
            if position > 0 {
                f.write_str(",")?;
            }
            write!(f, "{name}={enabled}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn f06_every_known_gate_is_accepted_and_an_unknown_one_is_not() {
        for gate in Gate::ALL {
            let gates = FeatureGates::parse(&format!("{}=true", gate.as_str())).unwrap();
            assert!(gates.enabled(*gate));
        }
        assert!(
            FeatureGates::parse("Nope=true")
                .unwrap_err()
                .contains("Nope")
        );
        assert!(
            FeatureGates::parse("LeaseCheckpoint")
                .unwrap_err()
                .contains("needs a value")
        );
        assert!(
            FeatureGates::parse("LeaseCheckpoint=maybe")
                .unwrap_err()
                .contains("LeaseCheckpoint")
        );
    }

    #[test]
    fn f06_a_gate_named_by_itself_wins_over_its_stage() {
        let defaults = FeatureGates::default();
        assert!(
            !defaults.enabled(Gate::LeaseCheckpoint) && defaults.enabled(Gate::FastLeaseKeepAlive)
        );
        let gates =
            FeatureGates::parse("AllAlpha=true, LeaseCheckpoint=false,AllBeta=false").unwrap();
        assert!(!gates.enabled(Gate::LeaseCheckpoint));
        assert!(gates.enabled(Gate::PriorityRequest));
        assert!(!gates.enabled(Gate::FastLeaseKeepAlive));
        assert_eq!(
            gates.to_string(),
            "AllAlpha=true,AllBeta=false,LeaseCheckpoint=false"
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[A-Za-z=, ]{0,40}") {
            let _ = FeatureGates::parse(&text);
        }
    }
}
