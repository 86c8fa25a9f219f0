//! Who calls: what the listener knew of the connection, and what the call's metadata said.

use bytes::Bytes;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// One for each connection, shared by all calls on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where the client connects from.
    pub address: PeerAddress,
    /// What the client proved with TLS; None without a client certificate.
    pub certificate: Option<Certificate>,
}

/// Where a client connects from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerAddress {
    /// The remote end of a TCP connection.
    Tcp(SocketAddr),
    /// The unix socket it came to: the remote end has no name.
    Unix(PathBuf),
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// A verified client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The common name of its subject, which is a user's name where certificates stand for users.
    pub common_name: String,
}

/// The caller of one request.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The connection it came on.
    pub peer: Arc<Peer>,
    /// What says who it is: the metadata `token`, or else `authorization`.
    pub token: Option<Bytes>,
    /// When it stops waiting, if it said so (G-13).
    pub deadline: Option<Instant>,
    /// Whether it wants no answer from a member that knows of no leader (G-04).
    pub requires_leader: bool,
    /// The API version it says it speaks (G-05).
    pub api_version: ApiVersion,
}

impl Caller {
    /// A caller whose metadata said nothing.
    pub fn new(peer: Arc<Peer>) -> Self {
        Self {
            peer,
            token: None,
            deadline: None,
            requires_leader: false,
            api_version: ApiVersion::Unknown,
        }
    }
}

/// The longest text that is taken for a version.
const VERSION_BYTES_MAX: usize = 16;

/// The metadata `client-api-version`. Kept in place, because most clients send it with every call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiVersion {
    /// There is none, or nothing that looks like a version of etcd's.
    Unknown,
    /// A version of etcd's, such as `3.6`.
    Known {
        /// Its text, up to `len`.
        text: [u8; VERSION_BYTES_MAX],
        /// Bytes of the text.
        len: u8,
    },
    /// It is not UTF-8, for which the call is refused.
    NotText,
}

impl ApiVersion {
    /// What the metadata says.
    pub fn of(value: &[u8]) -> Self {
        let Ok(version) = std::str::from_utf8(value) else {
            return Self::NotText;
        };
        let mut text = [0; VERSION_BYTES_MAX];
        match (text.get_mut(..value.len()), u8::try_from(value.len())) {
            (Some(start), Ok(len)) if version.starts_with("3.") => {
                start.copy_from_slice(value);
                Self::Known { text, len }
            }
            _ => Self::Unknown,
        }
    }

    /// The version, if it is known.
    pub fn known(&self) -> Option<&str> {
        match self {
            Self::Known { text, len } => std::str::from_utf8(text.get(..usize::from(*len))?).ok(),
            Self::Unknown | Self::NotText => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g_05_only_what_looks_like_a_version_is_one() {
        assert_eq!(ApiVersion::of(b"3.6").known(), Some("3.6"));
        assert_eq!(
            ApiVersion::of(b"3.6.1-alpha.0+12").known(),
            Some("3.6.1-alpha.0+12")
        );
        for unknown in [&b""[..], b"4.0", b"3", b"3.6.1-alpha.0+123"] {
            assert_eq!(ApiVersion::of(unknown), ApiVersion::Unknown);
        }
        assert_eq!(ApiVersion::of(b"3.\xff"), ApiVersion::NotText);
    }
}
