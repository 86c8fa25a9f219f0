//! This member, what it listens on, and how its connections behave.

use super::rule;
use crate::config::cluster::NAME_DEFAULT;
use crate::config::error::ConfigError;
use crate::config::model::{Allowed, KeepAlive, Listen, Member};
use crate::config::settings::{Settings, Warning};
use crate::config::url::{EtcdUrl, Urls};
use std::path::PathBuf;

pub(super) fn member(settings: &mut Settings) -> Result<Member, ConfigError> {
    let name: String = settings.get("name")?;
    if name.is_empty() {
        return Err(settings.bad("name", "a member needs a name"));
    }
    if name == NAME_DEFAULT {
        settings.warnings.push(Warning::new(
            "--name is \"default\": give every member a name of its own, or members of one cluster will be mixed up",
        ));
    }
    let mut data_dir: String = settings.get("data-dir")?;
    if data_dir.is_empty() {
        data_dir = format!("{name}.etcd");
        settings.warnings.push(Warning::new(format!(
            "--data-dir is not set: using {data_dir}"
        )));
    }
    let wal_dir: String = settings.get("wal-dir")?;
    Ok(Member {
        name,
        data_dir: PathBuf::from(data_dir),
        wal_dir: Some(PathBuf::from(wal_dir)).filter(|dir| !dir.as_os_str().is_empty()),
    })
}

/// The URLs of one listener setting, checked.
fn listen_urls(settings: &Settings, name: &str) -> Result<Urls, ConfigError> {
    let urls: Urls = settings.get(name)?;
    for url in &urls {
        if url.scheme().is_tls() {
            return Err(ConfigError::NotBuilt {
                place: settings.place(name),
                value: format!("{:?}", url.to_string()),
                feature: "TLS is".to_owned(),
            });
        }
        url.bind_address()
            .map_err(|reason| settings.bad(name, reason))?;
    }
    Ok(urls)
}

pub(super) fn listen(settings: &Settings) -> Result<Listen, ConfigError> {
    let peer_urls = listen_urls(settings, "listen-peer-urls")?;
    let client_urls = listen_urls(settings, "listen-client-urls")?;
    let client_http_urls = listen_urls(settings, "listen-client-http-urls")?;
    let metrics_urls = listen_urls(settings, "listen-metrics-urls")?;
    if client_urls.is_empty() {
        return Err(settings.bad("listen-client-urls", "clients need at least one URL"));
    }
    let fixed_port = |url: &&EtcdUrl| url.port() != Some(0);
    if let Some(url) = client_http_urls
        .iter()
        .filter(fixed_port)
        .find(|url| client_urls.iter().any(|u| u == *url))
    {
        return Err(rule(format!(
            "{url} is in both --listen-client-urls and --listen-client-http-urls"
        )));
    }
    let interval = settings.unless_zero("grpc-keepalive-interval")?;
    let timeout = settings.unless_zero("grpc-keepalive-timeout")?;
    Ok(Listen {
        client_urls,
        client_http_urls,
        peer_urls,
        metrics_urls,
        reuse_port: settings.get("socket-reuse-port")?,
        reuse_address: settings.get("socket-reuse-address")?,
        cors: allowed(settings.get("cors")?),
        host_whitelist: allowed(settings.get("host-whitelist")?),
        max_concurrent_streams: match settings.get("max-concurrent-streams")? {
            0 => u32::MAX,
            streams => streams,
        },
        keepalive_min_time: settings.unless_zero("grpc-keepalive-min-time")?,
        keepalive: interval
            .zip(timeout)
            .map(|(interval, timeout)| KeepAlive { interval, timeout }),
    })
}

fn allowed(mut names: Vec<String>) -> Allowed {
    if names.is_empty() || names.iter().any(|name| name == "*") {
        return Allowed::All;
    }
    names.sort();
    names.dedup();
    Allowed::Only(names)
}
