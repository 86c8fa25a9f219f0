//! The cluster at its start, and how its members agree.

use super::rule;
use crate::config::cluster::{Cluster, INITIAL_CLUSTER_DEFAULT, InitialCluster, NAME_DEFAULT};
use crate::config::error::ConfigError;
use crate::config::model::{Raft, RaftLog};
use crate::config::settings::{Settings, Warning};
use crate::config::url::Urls;
use std::time::Duration;

/// The longest election timeout that makes sense on a network of this planet.
const ELECTION_TIMEOUT_MS_MAX: u64 = 50_000;
/// An election must leave room for a few lost heartbeats.
const HEARTBEATS_PER_ELECTION_MIN: u64 = 5;
/// Peer timeouts below this would break connections that merely idle.
const PEER_TIMEOUT_MIN: Duration = Duration::from_secs(5);
/// The smallest log file that still holds the largest default request.
const LOG_SEGMENT_BYTES_MIN: u64 = 1024 * 1024;

pub(super) fn cluster(settings: &Settings, name: &str) -> Result<Cluster, ConfigError> {
    if settings.is_given("listen-client-urls")
        && !settings.is_given("advertise-client-urls")
        && !settings.from_etcd_file
    {
        return Err(rule(
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ));
    }
    let advertised = |name: &str| -> Result<Urls, ConfigError> {
        let urls: Urls = settings.get(name)?;
        for url in &urls {
            url.check_advertised()
                .map_err(|reason| settings.bad(name, reason))?;
        }
        Ok(urls)
    };
    let advertise_client_urls = advertised("advertise-client-urls")?;
    let advertise_peer_urls = advertised("initial-advertise-peer-urls")?;
    if advertise_peer_urls.is_empty() {
        return Err(settings.bad("initial-advertise-peer-urls", "at least one URL is needed"));
    }
    let text: String = settings.get("initial-cluster")?;
    let follows_name = text == INITIAL_CLUSTER_DEFAULT && name != NAME_DEFAULT;
    let initial = if follows_name {
        InitialCluster::one(name, advertise_peer_urls.clone())
    } else {
        InitialCluster::parse(&text).map_err(|reason| settings.bad("initial-cluster", reason))?
    };
    let names: Vec<&str> = initial.members().map(|(name, _)| name).collect();
    if names.len() > 1 {
        return Err(rule(format!(
            "{} names {} members ({}), but clusters of several members are not part of this build: \
             start this member alone, with --initial-cluster={name}={advertise_peer_urls}",
            settings.place("initial-cluster"),
            names.len(),
            names.join(", "),
        )));
    }
    Ok(Cluster {
        advertise_client_urls,
        advertise_peer_urls,
        initial,
        initial_state: settings.get("initial-cluster-state")?,
        token: settings.get("initial-cluster-token")?,
        follows_name,
    })
}

pub(super) fn raft(settings: &Settings) -> Result<Raft, ConfigError> {
    let heartbeat_ms = settings.get("heartbeat-interval")?;
    let election_ms = settings.get("election-timeout")?;
    for (name, value) in [
        ("heartbeat-interval", heartbeat_ms),
        ("election-timeout", election_ms),
    ] {
        if value == 0 {
            return Err(rule(format!("--{name} must be >0 (set to {value}ms)")));
        }
    }
    if heartbeat_ms * HEARTBEATS_PER_ELECTION_MIN > election_ms {
        return Err(rule(format!(
            "--election-timeout[{election_ms}ms] must be at least {HEARTBEATS_PER_ELECTION_MIN} times \
             --heartbeat-interval[{heartbeat_ms}ms]"
        )));
    }
    if election_ms > ELECTION_TIMEOUT_MS_MAX {
        return Err(rule(format!(
            "--election-timeout[{election_ms}ms] is too long: it may be at most {ELECTION_TIMEOUT_MS_MAX}ms"
        )));
    }
    Ok(Raft {
        heartbeat_interval: Duration::from_millis(heartbeat_ms),
        election_timeout: Duration::from_millis(election_ms),
        pre_vote: settings.get("pre-vote")?,
        inline_append: settings.get("raft-inline-append")?,
    })
}

pub(super) fn log(settings: &Settings) -> Result<RaftLog, ConfigError> {
    let segment_bytes = settings.get("raft-log-segment-bytes")?;
    if segment_bytes < LOG_SEGMENT_BYTES_MIN {
        return Err(settings.bad(
            "raft-log-segment-bytes",
            format!("it must be at least {LOG_SEGMENT_BYTES_MIN}"),
        ));
    }
    Ok(RaftLog {
        segment_bytes,
        unsafe_no_fsync: settings.get("unsafe-no-fsync")?,
    })
}

/// Checks what only clusters of several members use: it must make sense all the same.
pub(super) fn check_peers(settings: &mut Settings) -> Result<(), ConfigError> {
    for name in ["raft-read-timeout", "raft-write-timeout"] {
        if settings.get::<Duration>(name)? < PEER_TIMEOUT_MIN {
            settings.warnings.push(Warning::new(format!(
                "--{name} is below its minimum of 5s and is raised to it"
            )));
        }
    }
    if settings.unless_zero("compact-hash-check-time")?.is_none() {
        return Err(rule("--compact-hash-check-time must be >0 (set to 0s)"));
    }
    Ok(())
}
