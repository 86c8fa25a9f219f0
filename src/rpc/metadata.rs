//! What the headers of a call say of its caller.

use crate::api::{ApiVersion, Caller, Peer};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// When a call has to be answered. Counted from the arrival of its headers, and kept among its extensions until its
/// message has been read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(pub(super) Instant);

impl Deadline {
    /// The deadline of a call that arrives now. One that no clock reaches is none.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let timeout = timeout(headers.get("grpc-timeout")?)?;
        Instant::now().checked_add(timeout).map(Self)
    }
}

/// The caller of a call with these headers. Where a header is repeated, the first counts.
pub(super) fn caller(headers: &HeaderMap, deadline: Option<Deadline>, peer: &Arc<Peer>) -> Caller {
    let token = headers
        .get("token")
        .or_else(|| headers.get(http::header::AUTHORIZATION));
    Caller {
        peer: peer.clone(),
        token: token.map(|token| Bytes::copy_from_slice(token.as_bytes())),
        deadline: deadline.map(|Deadline(deadline)| deadline),
        requires_leader: headers
            .get("hasleader")
            .is_some_and(|value| value == "true"),
        api_version: headers
            .get("client-api-version")
            .map_or(ApiVersion::Unknown, |value| {
                ApiVersion::of(value.as_bytes())
            }),
    }
}

/// How long a client waits: up to eight digits and a unit.
fn timeout(value: &HeaderValue) -> Option<Duration> {
    let value = value.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    let amount: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 60 * 60),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::api::PeerAddress;
    use std::net::SocketAddr;

    fn with_timeout(value: &str) -> Option<Duration> {
        timeout(&HeaderValue::from_str(value).ok()?)
    }

    #[test]
    fn g_13_deadlines_are_read_in_every_unit() {
        assert_eq!(with_timeout("5S"), Some(Duration::from_secs(5)));
        assert_eq!(with_timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(
            with_timeout("99999999H"),
            Some(Duration::from_secs(99_999_999 * 3600))
        );
        assert_eq!(with_timeout("7n"), Some(Duration::from_nanos(7)));
        for bad in ["", "S", "5", "5x", "-1S", "123456789S", "5\u{e9}"] {
            assert_eq!(with_timeout(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn g_13_a_deadline_that_no_clock_reaches_is_none() {
        let mut headers = HeaderMap::new();
        assert!(Deadline::of(&headers).is_none());
        headers.insert("grpc-timeout", HeaderValue::from_static("99999999H"));
        assert_eq!(
            Deadline::of(&headers).is_some(),
            Instant::now()
                .checked_add(Duration::from_secs(99_999_999 * 3600))
                .is_some()
        );
    }

    #[test]
    fn g_04_g_05_a_caller_is_what_the_headers_say_and_the_connection_is() {
        let peer = Arc::new(Peer {
            address: PeerAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 4711))),
            certificate: None,
        });
        let silent = caller(&HeaderMap::new(), None, &peer);
        assert_eq!((silent.token, silent.deadline), (None, None));
        assert!(!silent.requires_leader);
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("hasleader", "true"),
            ("client-api-version", "3.6"),
            ("authorization", "abc"),
            ("grpc-timeout", "1S"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        let known = caller(&headers, Deadline::of(&headers), &peer);
        assert!(known.requires_leader && known.deadline.is_some());
        assert_eq!(known.api_version.known(), Some("3.6"));
        assert_eq!(known.token.as_deref(), Some(&b"abc"[..]));
        headers.insert("token", "first".parse().unwrap());
        let token = caller(&headers, None, &peer).token;
        assert_eq!(token.as_deref(), Some(&b"first"[..]));
        assert_eq!(known.peer.address.to_string(), "127.0.0.1:4711");
    }
}
