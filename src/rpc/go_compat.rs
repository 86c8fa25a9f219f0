//! What clients know from gRPC servers in Go, where tonic says it otherwise.

use http::Response;
use tonic::Status;
use tonic::body::Body;

/// Two texts that clients know from gRPC servers in Go: of the health service (H-01), and
/// of the transport. tonic refuses an oversized message with OutOfRange; gRPC servers in Go with ResourceExhausted, and
/// clients know them by that code and text (G-10).
pub(super) fn as_grpc_go_says(response: Response<Body>) -> Response<Body> {
    const OUT_OF_RANGE: &str = "11";
    let headers = response.headers();
    if headers
        .get("grpc-message")
        .is_some_and(|text| text == "service%20not%20registered")
    {
        return Status::not_found("unknown service").into_http();
    }
    if headers
        .get("grpc-status")
        .is_none_or(|code| code != OUT_OF_RANGE)
    {
        return response;
    }
    let Some(text) = headers.get("grpc-message").and_then(|m| m.to_str().ok()) else {
        return response;
    };
    let text = text.replace("%20", " ");
    if !text.contains("message length too large") {
        return response;
    }
    let mut numbers = text
        .split(|c: char| !c.is_ascii_digit())
        .filter(|part| part.len() > 2)
        .map(str::to_owned);
    let (found, limit) = (
        numbers.next().unwrap_or_default(),
        numbers.next().unwrap_or_default(),
    );
    Status::resource_exhausted(format!(
        "grpc: received message larger than max ({found} vs. {limit})"
    ))
    .into_http()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::status::status;
    use rusd_proto::EtcdError;

    #[test]
    fn g_10_an_oversized_message_is_refused_as_grpc_servers_in_go_do() {
        let status = Status::out_of_range(
            "Error, decoded message length too large: found 2097200 bytes, the limit is: 2097152 bytes",
        );
        let response = as_grpc_go_says(status.into_http());
        let status = Status::from_header_map(response.headers());
        assert_eq!(
            status.map(|s| (s.code(), s.message().to_owned())),
            Some((
                tonic::Code::ResourceExhausted,
                "grpc: received message larger than max (2097200 vs. 2097152)".to_owned()
            ))
        );
    }

    #[test]
    fn g_10_other_out_of_range_errors_pass_unchanged() {
        let response = as_grpc_go_says(status(EtcdError::Compacted).into_http());
        let status = Status::from_header_map(response.headers());
        assert_eq!(status.map(|s| s.code()), Some(tonic::Code::OutOfRange));
    }
}
