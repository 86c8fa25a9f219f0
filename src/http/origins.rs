//! Who may ask, from where: `--host-whitelist` (P-06) and `--cors` (P-07).

use super::Body;
use http::header::HOST;
use http::{HeaderValue, Request, Response};

/// Who may ask, from where.
#[derive(Clone, Debug)]
pub struct Origins {
    /// Hosts by which clients may call this server: a page that makes a browser resolve its own name to this server
    /// gets no answer. None: by any.
    pub hosts: Option<Vec<String>>,
    /// Pages whose scripts may read the answers. None: all.
    pub cors: Option<Vec<String>>,
}

impl Origins {
    /// Whether the host that a request names is this server's.
    pub(super) fn host_allowed<B>(&self, request: &Request<B>) -> bool {
        let Some(hosts) = &self.hosts else {
            return true;
        };
        let host = request
            .headers()
            .get(HOST)
            .and_then(|host| host.to_str().ok());
        let host = host
            .or(request.uri().authority().map(|a| a.as_str()))
            .unwrap_or_default();
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        hosts.iter().any(|known| known == name)
    }

    /// Tells a browser that a page from `origin` may read the response, if it may.
    pub(super) fn allow(&self, origin: Option<HeaderValue>, response: &mut Response<Body>) {
        let allowed = match &self.cors {
            None => Some(HeaderValue::from_static("*")),
            Some(pages) => origin.filter(|origin| pages.iter().any(|page| page == origin)),
        };
        if let Some(allowed) = allowed {
            let headers = response.headers_mut();
            headers.insert(
                "Access-Control-Allow-Methods",
                HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE"),
            );
            headers.insert("Access-Control-Allow-Origin", allowed);
            headers.insert(
                "Access-Control-Allow-Headers",
                HeaderValue::from_static("accept, content-type, authorization"),
            );
        }
    }
}
