//! `/metrics` (P-13) and `/debug/vars` (P-14).

use super::{Body, json, text};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use prometheus::{Encoder, TextEncoder};

/// Every registered metric, in the Prometheus text format.
pub fn render() -> Response<Body> {
    let mut body = Vec::new();
    if let Err(error) = TextEncoder::new().encode(&prometheus::gather(), &mut body) {
        return text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("cannot encode the metrics: {error}\n"),
        );
    }
    let mut response = text(StatusCode::OK, body);
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8; escaping=underscores"),
    );
    response
}

/// The command line, as Go programs publish it.
pub fn vars() -> Response<Body> {
    let cmdline: Vec<String> = std::env::args_os()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    json(
        StatusCode::OK,
        serde_json::json!({ "cmdline": cmdline }).to_string(),
    )
}
