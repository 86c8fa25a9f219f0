//! The cluster at its start: who is in it, and what this member advertises.
//!
//! In this build a cluster is one member. `--initial-cluster` is still read whole: its URLs and the token go into the
//! ids of the cluster and its member, and it must describe this very member, or a typing error would start a cluster
//! that nobody asked for. Once there is data, the data says what the cluster is, and `--initial-cluster` is not looked
//! at again ([`Cluster::check_bootstrap`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, ToSocketAddrs};

use super::Config;
use super::choice::choice;
use super::error::ConfigError;
use super::url::{EtcdUrl, Urls};

/// `--initial-cluster` when it is not given.
pub(super) const INITIAL_CLUSTER_DEFAULT: &str = "default=http://localhost:2380";
const ADVERTISE_PEER_DEFAULT: &str = "http://localhost:2380";
const ADVERTISE_CLIENT_DEFAULT: &str = "http://localhost:2379";
/// `--name` when it is not given.
pub(super) const NAME_DEFAULT: &str = "default";

/// The cluster at its start.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// The URLs that clients see in the list of members.
    pub advertise_client_urls: Urls,
    /// The URLs that go into the ids and to other members.
    pub advertise_peer_urls: Urls,
    /// The members of a new cluster.
    pub initial: InitialCluster,
    /// Whether a member without data starts a cluster or joins one.
    pub initial_state: InitialClusterState,
    /// Goes into the ids, so that clusters never mix.
    pub token: String,
    /// Whether the cluster was left at its default while the name was not: then it follows the name.
    pub(super) follows_name: bool,
}

choice! {
    /// Whether a member without data starts a cluster or joins one.
    InitialClusterState {
        /// Start a new cluster.
        New = "new",
        /// Join one that exists.
        Existing = "existing",
    }
}

/// Members and their peer URLs.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct InitialCluster(BTreeMap<String, Urls>);

impl InitialCluster {
    /// Reads `name=url,name=url`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut urls: BTreeMap<String, Vec<EtcdUrl>> = BTreeMap::new();
        for pair in text.split(',').filter(|pair| !pair.is_empty()) {
            let (name, url) = pair.split_once('=').unwrap_or((pair, ""));
            if url.is_empty() {
                return Err(format!("{name:?} has no URL: the form is name=url,..."));
            }
            urls.entry(name.to_owned()).or_default().push(url.parse()?);
        }
        Ok(InitialCluster(
            urls.into_iter()
                .map(|(name, urls)| (name, Urls::from(urls)))
                .collect(),
        ))
    }

    /// A cluster of one member.
    pub fn one(name: &str, urls: Urls) -> Self {
        InitialCluster(BTreeMap::from([(name.to_owned(), urls)]))
    }

    /// The members by name.
    pub fn members(&self) -> impl Iterator<Item = (&str, &Urls)> {
        self.0.iter().map(|(name, urls)| (name.as_str(), urls))
    }

    /// The URLs of one member.
    pub fn member(&self, name: &str) -> Option<&Urls> {
        self.0.get(name)
    }
}

impl fmt::Display for InitialCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = self
            .0
            .iter()
            .flat_map(|(name, urls)| urls.iter().map(move |url| (name, url)));
        for (position, (name, url)) in pairs.enumerate() {
            if position > 0 {
                f.write_str(",")?;
            }
            write!(f, "{name}={url}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for InitialCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// How host names become addresses; tests have their own.
pub type Resolve<'a> = &'a dyn Fn(&str, u16) -> Vec<IpAddr>;

/// Resolves with the system's resolver. A name that does not resolve has no addresses.
pub fn system_resolver(host: &str, port: u16) -> Vec<IpAddr> {
    match (host, port).to_socket_addrs() {
        Ok(addresses) => addresses.map(|address| address.ip()).collect(),
        Err(_) => Vec::new(),
    }
}

impl Cluster {
    /// Checks what only matters to a member that has no data yet.
    pub fn check_bootstrap(&self, name: &str, resolve: Resolve<'_>) -> Result<(), ConfigError> {
        let rule = |text: String| Err(ConfigError::Rule(text));
        if self.initial_state == InitialClusterState::Existing {
            return rule(
                "--initial-cluster-state is set to \"existing\" and there is no data: joining a cluster is not part of \
                 this build; set it to \"new\" to start one, or --data-dir to the member's data"
                    .to_owned(),
            );
        }
        let Some(urls) = self.initial.member(name) else {
            return rule(format!(
                "--initial-cluster ({}) does not include this member, whose --name is {name:?}",
                self.initial
            ));
        };
        if *urls != self.advertise_peer_urls
            && !same_addresses(urls, &self.advertise_peer_urls, resolve)
        {
            return rule(format!(
                "--initial-cluster says that {name} is at {urls}, but --initial-advertise-peer-urls says {}",
                self.advertise_peer_urls
            ));
        }
        Ok(())
    }
}

/// Whether two lists name the same addresses once names are resolved.
fn same_addresses(left: &Urls, right: &Urls, resolve: Resolve<'_>) -> bool {
    let addresses = |urls: &Urls| -> Option<Vec<(&'static str, BTreeSet<IpAddr>, u16)>> {
        let resolved = urls.iter().map(|url| {
            let (host, port) = (url.host()?, url.port()?);
            let ips = match host.parse() {
                Ok(ip) => BTreeSet::from([ip]),
                Err(_) => resolve(host, port).into_iter().collect(),
            };
            if ips.is_empty() {
                None
            } else {
                Some((url.scheme().as_str(), ips, port))
            }
        });
        resolved.collect()
    };
    let (Some(left), Some(right)) = (addresses(left), addresses(right)) else {
        return false;
    };
    let meets = |one: &[(&str, BTreeSet<IpAddr>, u16)], other: &[(&str, BTreeSet<IpAddr>, u16)]| {
        one.iter().all(|(scheme, ips, port)| {
            other
                .iter()
                .any(|(s, i, p)| s == scheme && p == port && !i.is_disjoint(ips))
        })
    };
    left.len() == right.len() && meets(&left, &right) && meets(&right, &left)
}

impl Config {
    /// Replaces advertised URLs that were left at localhost while listening on all addresses: others would be told to
    /// connect to themselves. `host` is the machine's own address. Says whether anything was replaced.
    pub fn advertise_host(&mut self, host: IpAddr) -> bool {
        let replace = |advertised: &mut Urls, default: &str, listen: &Urls| {
            let (Some(listened), Some(old)) = (listen.first(), advertised.first()) else {
                return false;
            };
            let (Some("0.0.0.0"), Some(port)) = (listened.host(), listened.port()) else {
                return false;
            };
            if advertised.len() != 1 || old.to_string() != default {
                return false;
            }
            *advertised = Urls::from(vec![EtcdUrl::tcp(old.scheme(), host.to_string(), port)]);
            true
        };
        let cluster = &mut self.cluster;
        let peer = replace(
            &mut cluster.advertise_peer_urls,
            ADVERTISE_PEER_DEFAULT,
            &self.listen.peer_urls,
        );
        let client = replace(
            &mut cluster.advertise_client_urls,
            ADVERTISE_CLIENT_DEFAULT,
            &self.listen.client_urls,
        );
        if peer && cluster.follows_name {
            cluster.initial =
                InitialCluster::one(&self.member.name, cluster.advertise_peer_urls.clone());
        }
        peer || client
    }
}

/// The address from which this machine reaches others, if it has a default route. Nothing is sent: connecting a
/// datagram socket only chooses a route. The target is an address that documentation reserves.
pub fn default_route_host() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind(("0.0.0.0", 0)).ok()?;
    socket.connect(("192.0.2.1", 9)).ok()?;
    let host = socket.local_addr().ok()?.ip();
    (!host.is_unspecified() && !host.is_loopback()).then_some(host)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn f09_a_name_may_repeat_for_several_urls() {
        let cluster = InitialCluster::parse("a=http://h:2,a=http://h:1").unwrap();
        assert_eq!(cluster.to_string(), "a=http://h:1,a=http://h:2");
        assert_eq!(cluster.members().count(), 1);
        for text in ["a", "a=", "a=b", "a=http://h:1,b"] {
            assert!(InitialCluster::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(
            InitialCluster::parse("").unwrap(),
            InitialCluster::default()
        );
    }

    #[test]
    fn f09_names_are_resolved_before_urls_are_called_different() {
        let resolve = |host: &str, _port: u16| match host {
            "node" => vec![IpAddr::from([10, 0, 0, 1])],
            _ => Vec::new(),
        };
        let urls = |text: &str| text.parse::<Urls>().unwrap();
        assert!(same_addresses(
            &urls("http://node:1"),
            &urls("http://10.0.0.1:1"),
            &resolve
        ));
        assert!(!same_addresses(
            &urls("http://node:1"),
            &urls("http://10.0.0.1:2"),
            &resolve
        ));
        assert!(!same_addresses(
            &urls("http://node:1"),
            &urls("https://10.0.0.1:1"),
            &resolve
        ));
        assert!(!same_addresses(
            &urls("http://nowhere:1"),
            &urls("http://10.0.0.1:1"),
            &resolve
        ));
        assert!(!same_addresses(
            &urls("http://node:1,http://node:2"),
            &urls("http://10.0.0.1:1"),
            &resolve
        ));
    }
}
