//! The configuration as one log line shows it.

use std::fmt;
use std::path::Path;

use serde_json::{Value as Json, json};

use super::duration;
use super::url::Urls;
use super::version::{RUSD_VERSION, git_sha, go_arch, go_os};
use super::{Allowed, Config};

/// Fields of the startup line, in order, under the names that tools know from etcd. It shows as one JSON object.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary(pub Vec<(&'static str, Json)>);

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (position, (name, value)) in self.0.iter().enumerate() {
            let comma = if position > 0 { "," } else { "" };
            write!(f, "{comma}\"{name}\":{value}")?;
        }
        f.write_str("}")
    }
}

fn path(path: &Path) -> Json {
    json!(path.display().to_string())
}

fn urls(urls: &Urls) -> Json {
    json!(urls.to_strings())
}

fn allowed(names: &Allowed) -> Json {
    match names {
        Allowed::All => json!(["*"]),
        Allowed::Only(names) => json!(names),
    }
}

impl Config {
    /// The fields of the line "starting an etcd server".
    pub fn summary(&self) -> Summary {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Summary(vec![
            ("etcd-version", json!(self.reported_version.to_string())),
            ("rusd-version", json!(RUSD_VERSION)),
            ("git-sha", json!(git_sha())),
            ("go-os", json!(go_os())),
            ("go-arch", json!(go_arch())),
            ("max-cpu-available", json!(cpus)),
            ("name", json!(self.member.name)),
            ("data-dir", path(&self.member.data_dir)),
            (
                "wal-dir-dedicated",
                self.member.wal_dir.as_deref().map_or(json!(""), path),
            ),
            ("storage-engine", json!(self.storage.engine.as_str())),
            (
                "heartbeat-interval",
                json!(duration::format(self.raft.heartbeat_interval)),
            ),
            (
                "election-timeout",
                json!(duration::format(self.raft.election_timeout)),
            ),
            ("pre-vote", json!(self.raft.pre_vote)),
            ("unsafe-no-fsync", json!(self.log.unsafe_no_fsync)),
            (
                "initial-advertise-peer-urls",
                urls(&self.cluster.advertise_peer_urls),
            ),
            ("listen-peer-urls", urls(&self.listen.peer_urls)),
            (
                "advertise-client-urls",
                urls(&self.cluster.advertise_client_urls),
            ),
            ("listen-client-urls", urls(&self.listen.client_urls)),
            (
                "listen-client-http-urls",
                urls(&self.listen.client_http_urls),
            ),
            ("listen-metrics-urls", urls(&self.listen.metrics_urls)),
            ("cors", allowed(&self.listen.cors)),
            ("host-whitelist", allowed(&self.listen.host_whitelist)),
            ("initial-cluster", json!(self.cluster.initial.to_string())),
            (
                "initial-cluster-state",
                json!(self.cluster.initial_state.as_str()),
            ),
            ("initial-cluster-token", json!(self.cluster.token)),
            ("quota-backend-bytes", json!(self.limits.quota_bytes)),
            ("max-request-bytes", json!(self.limits.max_request_bytes)),
            (
                "max-concurrent-streams",
                json!(self.listen.max_concurrent_streams),
            ),
            ("feature-gates", json!(self.gates.to_string())),
        ])
    }
}
