//! The table of all settings.
//!
//! One row per setting, and everything else is derived from it: the flag `--name`, the variables `ETCD_NAME` and
//! `RUSD_NAME`, the key `name` in its section of `rusd.toml`, the key in etcd's YAML file, the help text, the
//! documented `config/rusd.toml` and the table in `docs/flags.md`.
//!
//! The [`Status`] of a row says honestly what giving the setting does. Nothing is silently accepted and ignored: a
//! setting without effect gets a warning line, and one that asks for something this build does not have is refused.

mod table;

use super::choice::choice;
use super::gates::Gate;
use super::value::Kind;
use std::collections::BTreeMap;

/// One setting.
#[derive(Debug)]
pub struct Flag {
    /// The flag without its dashes; also the key in both kinds of configuration file.
    pub name: &'static str,
    /// Where it belongs.
    pub section: Section,
    /// What it accepts.
    pub kind: Kind,
    /// The value when nothing is given, as it would be given.
    pub default: &'static str,
    /// What giving it does.
    pub status: Status,
    /// What it is, in one sentence or two.
    pub help: &'static str,
}

choice! {
    /// A group of settings: a heading of the help text, and a table of `rusd.toml`, whose name is the word.
    Section {
        /// This member: its directories, listeners and limits.
        Member = "member",
        /// The cluster, and how it is found.
        Clustering = "clustering",
        /// TLS, authentication and HTTP origins.
        Security = "security",
        /// Logs, metrics and tracing.
        Monitoring = "monitoring",
        /// Checks, compaction, watch and unsafe switches.
        Features = "features",
        /// What etcd does not have.
        Rusd = "rusd",
    }
}

impl Section {
    /// The heading in the help text.
    pub fn heading(self) -> &'static str {
        match self {
            Section::Member => "Member",
            Section::Clustering => "Clustering",
            Section::Security => "Security",
            Section::Monitoring => "Monitoring and logging",
            Section::Features => "Features and unsafe switches",
            Section::Rusd => "What etcd does not have",
        }
    }
}

/// What giving a setting does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// What its help says.
    Works,
    /// Checked and accepted. With a single member there is nothing for it to change, in etcd either; the text says why.
    Moot(&'static str),
    /// Accepted with a warning: what it tunes does not exist here; the text says why.
    NoEffect(&'static str),
    /// Refused unless it is the default; the text names what is missing, with its verb.
    NotBuilt(&'static str),
}

impl Status {
    /// What a help text says of it, behind the sentence that says what the setting is.
    pub(super) fn remark(self) -> String {
        match self {
            Status::Works => String::new(),
            Status::Moot(reason) => format!(" Nothing to do: {reason}."),
            Status::NoEffect(reason) => format!(" No effect: {reason}."),
            Status::NotBuilt(_) => {
                " Not part of this build: only the default is accepted.".to_owned()
            }
        }
    }
}

impl Flag {
    /// Whether etcd knows the setting too. Only then is there an `ETCD_` variable.
    pub fn is_etcds(&self) -> bool {
        self.section != Section::Rusd
    }

    /// Whether its value must not be shown.
    pub fn is_secret(&self) -> bool {
        self.name.ends_with("-password") || self.name == "discovery-user"
    }

    /// What may be shown of its value.
    pub(super) fn hide_secret(&self, shown: String) -> String {
        if self.is_secret() {
            "(hidden)".to_owned()
        } else {
            shown
        }
    }

    /// The part of its variables after `ETCD_` or `RUSD_`.
    pub fn variable_suffix(&self) -> String {
        self.name.replace('-', "_").to_ascii_uppercase()
    }
}

/// All settings, section by section.
pub fn all() -> impl Iterator<Item = &'static Flag> {
    table::TABLE.iter()
}

/// The flag that names `rusd.toml`.
pub const CONFIG_FLAG: &str = "config";

/// The flag that names etcd's own configuration file.
pub const CONFIG_FILE_FLAG: &str = "config-file";

/// The setting of this name.
pub fn find(name: &str) -> Option<&'static Flag> {
    all().find(|flag| flag.name == name)
}

/// What an older spelling of a flag stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alias {
    /// The same value under the setting's present name.
    Flag(&'static str),
    /// A boolean that switches a feature gate.
    Gate(Gate),
}

/// What the spellings of etcd 3.6 put before a name. Older kubeadm releases and charts still use them.
const EXPERIMENTAL: &str = "experimental-";

/// Settings that are known without the prefix today.
const EXPERIMENTAL_FLAGS: &[&str] = &[
    "experimental-bootstrap-defrag-threshold-megabytes",
    "experimental-compact-hash-check-time",
    "experimental-compaction-batch-limit",
    "experimental-compaction-sleep-interval",
    "experimental-corrupt-check-time",
    "experimental-distributed-tracing-address",
    "experimental-distributed-tracing-instance-id",
    "experimental-distributed-tracing-sampling-rate",
    "experimental-distributed-tracing-service-name",
    "experimental-downgrade-check-time",
    "experimental-enable-distributed-tracing",
    "experimental-memory-mlock",
    "experimental-peer-skip-client-san-verification",
    "experimental-snapshot-catchup-entries",
    "experimental-warning-apply-duration",
    "experimental-warning-unary-request-duration",
    "experimental-watch-progress-notify-interval",
];

/// Flags that have become feature gates.
const EXPERIMENTAL_GATES: &[(&str, Gate)] = &[
    (
        "experimental-compact-hash-check-enabled",
        Gate::CompactHashCheck,
    ),
    (
        "experimental-enable-lease-checkpoint",
        Gate::LeaseCheckpoint,
    ),
    (
        "experimental-enable-lease-checkpoint-persist",
        Gate::LeaseCheckpointPersist,
    ),
    (
        "experimental-initial-corrupt-check",
        Gate::InitialCorruptCheck,
    ),
    (
        "experimental-stop-grpc-service-on-defrag",
        Gate::StopGrpcServiceOnDefrag,
    ),
    (
        "experimental-txn-mode-write-with-shared-buffer",
        Gate::TxnModeWriteWithSharedBuffer,
    ),
];

/// All older spellings, sorted.
pub fn experimental() -> impl Iterator<Item = (&'static str, Alias)> {
    let flags = EXPERIMENTAL_FLAGS.iter().filter_map(|spelling| {
        let name = spelling.strip_prefix(EXPERIMENTAL)?;
        Some((*spelling, Alias::Flag(name)))
    });
    let gates = EXPERIMENTAL_GATES
        .iter()
        .map(|(spelling, gate)| (*spelling, Alias::Gate(*gate)));
    flags.chain(gates).collect::<BTreeMap<_, _>>().into_iter()
}

/// What the flag `name` means if it is an older spelling.
pub fn find_alias(name: &str) -> Option<Alias> {
    experimental()
        .find(|(spelling, _)| *spelling == name)
        .map(|(_, alias)| alias)
}

/// Flags that etcd has long ceased to use and still accepts, with or without a value. (etcd's list also has `config`,
/// which here names the base configuration file.)
pub const LEGACY: &[&str] = &[
    "cluster-active-size",
    "cluster-remove-delay",
    "cluster-sync-interval",
    "force",
    "max-result-buffer",
    "max-retry-attempts",
    "peer-heartbeat-interval",
    "peer-election-timeout",
    "retry-interval",
    "snapshot",
    "v",
    "vv",
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_row_is_unique_and_its_default_is_readable() {
        let mut seen = BTreeSet::new();
        for flag in all() {
            assert!(seen.insert(flag.name), "{} is there twice", flag.name);
            flag.kind
                .parse(flag.default)
                .unwrap_or_else(|reason| panic!("{}: {reason}", flag.name));
            assert!(
                flag.help.ends_with('.'),
                "{}: the help is a sentence",
                flag.name
            );
            assert!(!LEGACY.contains(&flag.name), "{}", flag.name);
        }
        assert!(all().map(|flag| flag.section).is_sorted());
    }

    #[test]
    fn f06_all_23_experimental_spellings_lead_to_a_row_or_a_gate() {
        assert_eq!(experimental().count(), 23);
        for (name, alias) in experimental() {
            if let Alias::Flag(target) = alias {
                assert!(find(target).is_some(), "{name}");
            }
        }
    }
}
