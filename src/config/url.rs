//! The URLs of listeners and of advertised addresses.
//!
//! etcd's URLs are a scheme and an address, nothing more: `http://10.0.0.1:2379`, `https://name:2380`,
//! `unix:///run/etcd.sock`. A path, a query or a user on a TCP URL is an error. The text of a peer URL goes into the
//! member's id, so a URL is shown exactly as etcd shows it.
//!
//! That is why the `url` crate does not read them. It follows the rules of browsers, which correct what they read:
//!
//! ```text
//!   given                  the url crate has       etcd has
//!   http://Node-A:2380     http://node-a:2380/     http://Node-A:2380: another text is another member id
//!   http://a:80            http://a/, no port      http://a:80
//!   http://a:2380/         the same as without /   an error
//!   http://1:2380          http://0.0.0.1:2380/    the host named 1
//!   http:a:2380            http://a:2380/          an error
//! ```

use super::choice::choice;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

choice! {
    /// How a URL is spoken.
    Scheme {
        /// Plain text over TCP.
        Http = "http",
        /// TLS over TCP.
        Https = "https",
        /// Plain text over a Unix socket.
        Unix = "unix",
        /// TLS over a Unix socket.
        Unixs = "unixs",
    }
}

impl Scheme {
    /// Whether the URL asks for TLS.
    pub fn is_tls(self) -> bool {
        matches!(self, Scheme::Https | Scheme::Unixs)
    }
}

/// One URL of a listener or of an advertised address.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EtcdUrl {
    scheme: Scheme,
    address: Address,
}

/// The address part of a URL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Address {
    /// A host without brackets (possibly empty, which only an advertised URL minds) and a port.
    Tcp { host: String, port: u16 },
    /// What follows `unix:`, and the socket's path.
    Unix { text: String, path: PathBuf },
}

/// What a server can bind for a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindAddress {
    /// The loopback interface, by whichever of its addresses the machine has.
    Localhost(u16),
    /// One address, or all of them.
    Ip(IpAddr, u16),
    /// A Unix socket.
    Unix(PathBuf),
}

impl EtcdUrl {
    /// A TCP URL.
    pub fn tcp(scheme: Scheme, host: impl Into<String>, port: u16) -> Self {
        EtcdUrl {
            scheme,
            address: Address::Tcp {
                host: host.into(),
                port,
            },
        }
    }

    /// The URL's scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host without brackets; none for a Unix socket.
    pub fn host(&self) -> Option<&str> {
        match &self.address {
            Address::Tcp { host, .. } => Some(host),
            Address::Unix { .. } => None,
        }
    }

    /// The port; none for a Unix socket.
    pub fn port(&self) -> Option<u16> {
        match &self.address {
            Address::Tcp { port, .. } => Some(*port),
            Address::Unix { .. } => None,
        }
    }

    /// Where to listen for this URL. Host names are not bound: which of a name's addresses is meant would be a guess.
    pub fn bind_address(&self) -> Result<BindAddress, String> {
        match &self.address {
            Address::Unix { path, .. } => Ok(BindAddress::Unix(path.clone())),
            Address::Tcp { host, port } if host == "localhost" => Ok(BindAddress::Localhost(*port)),
            Address::Tcp { host, port } => host
                .parse()
                .map(|ip| BindAddress::Ip(ip, *port))
                .map_err(|_| {
                    format!(
                        "{self} cannot be listened on: give an IP address or localhost, not a name"
                    )
                }),
        }
    }

    /// Whether others can be told to connect here.
    pub fn check_advertised(&self) -> Result<(), String> {
        match &self.address {
            Address::Tcp { host, .. } if host.is_empty() => Err(format!("{self} has no host")),
            _ => Ok(()),
        }
    }
}

impl FromStr for EtcdUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (scheme_text, rest) = text.split_once(':').ok_or_else(|| {
            format!("{text:?} is not a URL: it must start with http, https, unix or unixs")
        })?;
        let scheme = Scheme::of_word(&scheme_text.to_ascii_lowercase())
            .ok_or_else(|| format!("the scheme of {text:?} must be http, https, unix or unixs"))?;
        if rest.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(format!("{text:?} contains a space or a control character"));
        }
        let address = match scheme {
            Scheme::Http | Scheme::Https => tcp_address(text, rest)?,
            Scheme::Unix | Scheme::Unixs => unix_address(text, rest)?,
        };
        Ok(EtcdUrl { scheme, address })
    }
}

/// Reads `//host:port`.
fn tcp_address(text: &str, rest: &str) -> Result<Address, String> {
    let form = || format!("{text:?} must have the form scheme://host:port");
    let authority = rest.strip_prefix("//").ok_or_else(form)?;
    if authority.contains(['/', '?', '#']) {
        return Err(format!(
            "{text:?} must end after the port: a path or query has no meaning here"
        ));
    }
    let (host_text, port_text) = authority.rsplit_once(':').ok_or_else(form)?;
    let host = match host_text.strip_prefix('[') {
        Some(inner) => {
            let inner = inner.strip_suffix(']').ok_or_else(form)?;
            inner
                .parse::<Ipv6Addr>()
                .map_err(|_| format!("{text:?}: {inner:?} is not an IPv6 address"))?;
            inner
        }
        None => {
            let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            if !host_text.chars().all(known) {
                return Err(form());
            }
            host_text
        }
    };
    if port_text.is_empty() || !port_text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(form());
    }
    let port = port_text
        .parse()
        .map_err(|_| format!("the port of {text:?} is above 65535"))?;
    Ok(Address::Tcp {
        host: host.to_owned(),
        port,
    })
}

/// Reads `///path`, `/path` or `//relative`: the socket is named by everything after the slashes of the scheme.
fn unix_address(text: &str, rest: &str) -> Result<Address, String> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path.is_empty() {
        return Err(format!("{text:?} names no socket"));
    }
    Ok(Address::Unix {
        text: rest.to_owned(),
        path: PathBuf::from(path),
    })
}

impl fmt::Display for EtcdUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme.as_str();
        match &self.address {
            Address::Tcp { host, port } if host.contains(':') => {
                write!(f, "{scheme}://[{host}]:{port}")
            }
            Address::Tcp { host, port } => write!(f, "{scheme}://{host}:{port}"),
            Address::Unix { text, .. } => write!(f, "{scheme}:{text}"),
        }
    }
}

impl fmt::Debug for EtcdUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A list of URLs, sorted by text and without repeats, as etcd keeps and advertises them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Urls(Vec<EtcdUrl>);

impl Urls {
    /// The URLs in order.
    pub fn iter(&self) -> std::slice::Iter<'_, EtcdUrl> {
        self.0.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The first, if any.
    pub fn first(&self) -> Option<&EtcdUrl> {
        self.0.first()
    }

    /// Every URL as text, in order.
    pub fn to_strings(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }
}

impl From<Vec<EtcdUrl>> for Urls {
    fn from(mut urls: Vec<EtcdUrl>) -> Self {
        urls.sort_by_cached_key(ToString::to_string);
        urls.dedup();
        Urls(urls)
    }
}

impl FromStr for Urls {
    type Err = String;

    /// Reads a comma-separated list; an empty text is an empty list.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Urls::default());
        }
        let urls = text
            .split(',')
            .map(EtcdUrl::from_str)
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Urls::from(urls))
    }
}

impl fmt::Debug for Urls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{self}]")
    }
}

impl<'a> IntoIterator for &'a Urls {
    type Item = &'a EtcdUrl;
    type IntoIter = std::slice::Iter<'a, EtcdUrl>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl fmt::Display for Urls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, url) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str(",")?;
            }
            write!(f, "{url}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use proptest::prelude::*;

    fn url(text: &str) -> EtcdUrl {
        text.parse().unwrap()
    }

    #[test]
    fn f08_listen_urls_are_ip_addresses_or_localhost() {
        assert_eq!(
            url("http://localhost:2379").bind_address(),
            Ok(BindAddress::Localhost(2379))
        );
        assert_eq!(
            url("http://0.0.0.0:0").bind_address(),
            Ok(BindAddress::Ip(IpAddr::from([0, 0, 0, 0]), 0))
        );
        assert_eq!(
            url("http://[::1]:1").bind_address(),
            Ok(BindAddress::Ip(IpAddr::from(Ipv6Addr::LOCALHOST), 1))
        );
        assert!(
            url("http://example.com:1")
                .bind_address()
                .unwrap_err()
                .contains("IP address or localhost")
        );
        assert!(url("http://:1").bind_address().is_err());
        assert!(url("http://example.com:1").check_advertised().is_ok());
        assert!(url("http://:1").check_advertised().is_err());
    }

    #[test]
    fn p05_pr08_unix_sockets_and_port_zero() {
        assert_eq!(
            url("unix:///run/e.sock").bind_address(),
            Ok(BindAddress::Unix(PathBuf::from("/run/e.sock")))
        );
        assert_eq!(
            url("unix:/run/e.sock").bind_address(),
            Ok(BindAddress::Unix(PathBuf::from("/run/e.sock")))
        );
        assert_eq!(
            url("unix://localhost:23790").bind_address(),
            Ok(BindAddress::Unix(PathBuf::from("localhost:23790")))
        );
    }

    #[test]
    fn a_url_is_a_scheme_and_an_address_and_nothing_more() {
        for text in [
            "",
            "http",
            "http:",
            "http://",
            "http://a",
            "http://a:",
            "http://a:b",
            "http://a:70000",
            "http://a:1/",
            "http://a:1/b",
            "http://a:1?x",
            "http://u@a:1",
            "ftp://a:1",
            "//a:1",
            "http://[::1:1",
            "http://[a]:1",
            "http://a b:1",
            "http:a:2380",
            "unix:",
            "unix://",
            "http://a:+1",
        ] {
            assert!(text.parse::<EtcdUrl>().is_err(), "{text:?}");
        }
        // What a browser would correct goes into ids as it is given.
        for (given, shown) in [
            ("  HTTP://A:1 ", "http://A:1"),
            ("http://a:80", "http://a:80"),
            ("http://1:2380", "http://1:2380"),
        ] {
            assert_eq!(url(given).to_string(), shown);
        }
    }

    #[test]
    fn lists_are_sorted_and_without_repeats() {
        let urls: Urls = "http://b:1,http://a:1,http://b:1".parse().unwrap();
        assert_eq!(urls.to_string(), "http://a:1,http://b:1");
        assert!("".parse::<Urls>().unwrap().is_empty());
        assert!("http://a:1,".parse::<Urls>().is_err());
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_shown_as_it_reads(text in "(http|https|unix|unixs):(//|)[a-z0-9:/.\\[\\]]{0,20}") {
            if let Ok(url) = text.parse::<EtcdUrl>() {
                prop_assert_eq!(url.to_string().parse::<EtcdUrl>(), Ok(url));
            }
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = text.parse::<Urls>();
        }
    }
}
