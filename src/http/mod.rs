//! HTTP/1.1 on the client port and on `--listen-metrics-urls`: health, version and metrics.

pub mod health;
pub mod metrics;
mod origins;

pub use origins::Origins;

use crate::api::{Api, Context};
use bytes::Bytes;
use health::{Probe, Query};
use http::header::{ALLOW, CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use std::sync::{Arc, OnceLock};

/// The body of every answer.
pub type Body = Full<Bytes>;

/// Which listeners a handler answers on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// The client port.
    Client,
    /// `--listen-metrics-urls`: health and metrics only (P-15).
    Metrics,
}

/// The handlers. Before the member has joined only the metrics surface answers, and its probes fail.
#[derive(Clone, Debug)]
pub struct Http {
    /// Set once the member has joined.
    api: Arc<OnceLock<Arc<Api>>>,
    surface: Surface,
    origins: Arc<Origins>,
}

impl Http {
    /// Handlers for one kind of listener.
    pub fn new(api: Arc<OnceLock<Arc<Api>>>, surface: Surface, origins: Arc<Origins>) -> Self {
        Self {
            api,
            surface,
            origins,
        }
    }

    /// Answers a request.
    pub async fn call<B>(&self, request: Request<B>) -> Response<Body> {
        if self.surface == Surface::Client && !self.origins.host_allowed(&request) {
            return text(
                StatusCode::MISDIRECTED_REQUEST,
                "the host is not in --host-whitelist\n",
            );
        }
        let origin = request.headers().get(http::header::ORIGIN).cloned();
        let mut response = if request.method() == Method::OPTIONS && self.surface == Surface::Client
        {
            text(StatusCode::OK, "")
        } else {
            self.route(&request).await
        };
        if self.surface == Surface::Client {
            self.origins.allow(origin, &mut response);
        }
        response
    }

    async fn route<B>(&self, request: &Request<B>) -> Response<Body> {
        let path = request.uri().path();
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let context = self.api.get().map(|api| api.context());
        // The scrape handler of Prometheus takes every method; monitors ask with HEAD.
        if request.method() != Method::GET && path != "/metrics" && self.serves(path) {
            let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
            refusal
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET"));
            return refusal;
        }
        match path {
            "/health" => health::health(context, &query).await,
            "/metrics" => metrics::render(),
            "/version" if self.surface == Surface::Client => version(context),
            "/debug/vars" if self.surface == Surface::Client => metrics::vars(),
            _ => match Probe::at(path) {
                Some(probe) => health::probe(context, probe, &query).await,
                None if is_gateway(path) && self.surface == Surface::Client => text(
                    StatusCode::NOT_IMPLEMENTED,
                    "the JSON gateway is not available in this version of rusd: use gRPC\n",
                ),
                None => self
                    .redirect(request.uri())
                    .unwrap_or_else(|| text(StatusCode::NOT_FOUND, "404 page not found\n")),
            },
        }
    }

    /// Where a path with empty or dot segments leads, as Go's servers tell: a base URL with a slash at its end makes
    /// `//health` of a probe.
    fn redirect(&self, asked: &Uri) -> Option<Response<Body>> {
        let mut segments = Vec::new();
        for segment in asked.path().split('/') {
            match segment {
                "" | "." => {}
                ".." => drop(segments.pop()),
                segment => segments.push(segment),
            }
        }
        let mut to = format!("/{}", segments.join("/"));
        // The path of a handler with a slash behind it is another path.
        if asked.path().ends_with('/') || !self.serves(&to) {
            return None;
        }
        if let Some(query) = asked.query() {
            to = format!("{to}?{query}");
        }
        let location = HeaderValue::try_from(to).ok()?;
        let mut response = text(StatusCode::TEMPORARY_REDIRECT, "");
        response.headers_mut().insert(LOCATION, location);
        Some(response)
    }

    /// Whether there is something at a path.
    fn serves(&self, path: &str) -> bool {
        match path {
            "/health" | "/metrics" => true,
            "/version" | "/debug/vars" => self.surface == Surface::Client,
            _ => Probe::at(path).is_some(),
        }
    }
}

/// P-10.
fn version(context: Option<&Context>) -> Response<Body> {
    let server = context
        .map(|context| context.versions.server.clone())
        .unwrap_or_default();
    let decided = context.and_then(|context| context.published.load().cluster_version.clone());
    let cluster = decided.as_deref().unwrap_or("not_decided");
    let storage = decided.as_deref().unwrap_or("unknown");
    // Three versions need no escaping, and their order is etcd's.
    let body =
        format!(r#"{{"etcdserver":"{server}","etcdcluster":"{cluster}","storage":"{storage}"}}"#);
    json(StatusCode::OK, body)
}

fn is_gateway(path: &str) -> bool {
    path.starts_with("/v3/") || path.starts_with("/v3beta/")
}

fn answer(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    answer(status, "text/plain; charset=utf-8", body)
}

fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    answer(status, "application/json", body)
}
