//! gRPC: one file per service. A handler validates, admits, sends to an actor (or reads the published view)
//! and maps the reply; what is common to all calls happens once, in [`Grpc`].

pub mod auth;
pub mod cluster;
pub mod context;
pub mod durations;
pub mod kv;
pub mod large_reply;
pub mod lease;
pub mod maintenance;
pub mod metrics;
pub mod range_stream;
pub mod slow;
pub mod watch;

pub use context::Context;

use context::status;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use metrics::{CallType, Method};
use rusd_proto::EtcdError;
use rusd_proto::etcdserverpb::{
    auth_server::AuthServer, cluster_server::ClusterServer, kv_server::KvServer,
    lease_server::LeaseServer, maintenance_server::MaintenanceServer, watch_server::WatchServer,
};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tonic::Status;
use tonic::body::Body;
use tonic_health::pb::health_server::{Health, HealthServer};
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;
use tower_service::Service;
use tracing::warn;

/// What gRPC itself may add to a message beyond `--max-request-bytes` (G-10).
pub const TRANSPORT_OVERHEAD_BYTES: usize = 512 * 1024;

const KV: &str = "etcdserverpb.KV";

/// A service that is called by name and not counted.
type OtherService = BoxCloneSyncService<Request<Incoming>, Response<Body>, Infallible>;

/// The services, and what every call goes through: the leader requirement (G-04), the client's API
/// version (G-05), its deadline (G-13), the counters of section 4.5 and the slow-call log (G-12).
pub struct Grpc {
    context: Arc<Context>,
    kv: KvServer<kv::KvService>,
    watch: WatchServer<watch::WatchService>,
    lease: LeaseServer<lease::LeaseService>,
    cluster: ClusterServer<cluster::ClusterService>,
    maintenance: MaintenanceServer<maintenance::MaintenanceService>,
    auth: AuthServer<auth::AuthService>,
    /// Health and reflection: what etcd's dashboards do not count.
    others: Vec<(&'static str, OtherService)>,
}

impl Grpc {
    /// The services over one context.
    pub fn new(
        context: Arc<Context>,
        watch: watch::WatchService,
        lease: lease::LeaseService,
        health: HealthServer<impl Health>,
    ) -> Self {
        let limit = context.limits.max_request_bytes + TRANSPORT_OVERHEAD_BYTES;
        macro_rules! server {
            ($server:ident, $service:expr) => {
                $server::new($service)
                    .max_decoding_message_size(limit)
                    .max_encoding_message_size(i32::MAX as usize)
            };
        }
        let mut others = vec![("grpc.health.v1.Health", OtherService::new(health))];
        match reflection() {
            Ok(reflection) => others.extend(reflection),
            Err(error) => warn!(%error, "gRPC reflection is not available"),
        }
        Self {
            kv: server!(KvServer, kv::KvService::new(context.clone())),
            watch: server!(WatchServer, watch),
            lease: server!(LeaseServer, lease),
            cluster: server!(ClusterServer, cluster::ClusterService::new(context.clone())),
            maintenance: server!(
                MaintenanceServer,
                maintenance::MaintenanceService::new(context.clone())
            ),
            auth: server!(AuthServer, auth::AuthService::new(context.clone())),
            others,
            context,
        }
    }

    /// Answers one call.
    pub fn call(&self, request: Request<Incoming>) -> BoxFuture<'static, Response<Body>> {
        let Some(method) = metrics::method(request.uri().path()) else {
            return self.call_uncounted(request);
        };
        let call = method.start();
        if let Err(error) = self.check_metadata(&request, method) {
            return Box::pin(async move {
                if method.kind == CallType::Unary {
                    drain(request.into_body()).await;
                }
                call.finish(status(error).into_http())
            });
        }
        let deadline = deadline(&request);
        let response = self.dispatch(method, request);
        let slow_after = self.context.limits.warning_unary_request;
        Box::pin(async move {
            let response = match deadline {
                None => response.await,
                Some(timeout) if method.kind == CallType::Unary => {
                    match tokio::time::timeout(timeout, response).await {
                        Ok(response) => response,
                        Err(_) => {
                            Ok(Status::deadline_exceeded("context deadline exceeded").into_http())
                        }
                    }
                }
                Some(_) => response.await,
            };
            let Ok(response) = response;
            let response = large_reply::in_pieces(as_grpc_go_says(response));
            // The KV handlers know what was asked, and log that too.
            if method.kind == CallType::Unary && method.service != KV {
                slow::warn_if_slow(method.path, call.started, slow_after, &slow::Content::Other);
            }
            call.finish(response)
        })
    }

    fn dispatch(&self, method: &'static Method, request: Request<Incoming>) -> Answer {
        match method.service {
            KV => boxed(self.kv.clone().call(request)),
            "etcdserverpb.Watch" => boxed(self.watch.clone().call(request)),
            "etcdserverpb.Lease" => boxed(self.lease.clone().call(request)),
            "etcdserverpb.Cluster" => boxed(self.cluster.clone().call(request)),
            "etcdserverpb.Maintenance" => boxed(self.maintenance.clone().call(request)),
            _ => boxed(self.auth.clone().call(request)),
        }
    }

    /// Calls that etcd's dashboards do not count: health, reflection, and what does not exist.
    fn call_uncounted(&self, request: Request<Incoming>) -> BoxFuture<'static, Response<Body>> {
        let path = request.uri().path();
        let service = path
            .trim_start_matches('/')
            .split('/')
            .next()
            .unwrap_or_default();
        let other = self.others.iter().find(|(name, _)| *name == service);
        let answer = match other {
            Some((_, other)) => boxed(other.clone().oneshot(request)),
            None => {
                let text = if metrics::is_service(service) {
                    let rpc = path.rsplit('/').next().unwrap_or_default();
                    format!("unknown method {rpc} for service {service}")
                } else {
                    format!("unknown service {service}")
                };
                boxed(std::future::ready(Ok(
                    Status::unimplemented(text).into_http()
                )))
            }
        };
        Box::pin(async move {
            let Ok(response) = answer.await;
            as_grpc_go_says(response)
        })
    }

    fn check_metadata(
        &self,
        request: &Request<Incoming>,
        method: &'static Method,
    ) -> Result<(), EtcdError> {
        let headers = request.headers();
        let api_version = match headers.get("client-api-version") {
            None => "unknown",
            Some(version) => std::str::from_utf8(version.as_bytes())
                .map_err(|_| EtcdError::InvalidClientApiVersion)?,
        };
        metrics::count_client_request(method, api_version);
        let requires_leader = headers
            .get("hasleader")
            .is_some_and(|value| value == "true");
        if requires_leader && self.context.raft.leader().is_none() {
            return Err(EtcdError::NoLeader);
        }
        Ok(())
    }
}

/// Reflection, under its present name and the one that older tools ask for. etcd does not have it.
fn reflection() -> Result<[(&'static str, OtherService); 2], tonic_reflection::server::Error> {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(rusd_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let (v1, v1alpha) = (builder().build_v1()?, builder().build_v1alpha()?);
    Ok([
        ("grpc.reflection.v1.ServerReflection", OtherService::new(v1)),
        (
            "grpc.reflection.v1alpha.ServerReflection",
            OtherService::new(v1alpha),
        ),
    ])
}

type Answer = BoxFuture<'static, Result<Response<Body>, Infallible>>;

fn boxed<F>(future: F) -> Answer
where
    F: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
{
    Box::pin(future)
}

/// Reads what a refused call still sends, within reason: resetting the stream instead looks like a failure of the
/// transport to some clients.
async fn drain(body: Incoming) {
    const BYTES_MAX: usize = 64 * 1024;
    let _too_much_or_gone = http_body_util::Limited::new(body, BYTES_MAX)
        .collect()
        .await;
}

/// The client's own deadline, from the `grpc-timeout` header: up to eight digits and a unit.
fn deadline<B>(request: &Request<B>) -> Option<Duration> {
    let value = request.headers().get("grpc-timeout")?.to_str().ok()?;
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

/// Two texts that clients know from gRPC servers in Go: of the health service (H-01), and
/// of the transport. tonic refuses an oversized message with OutOfRange; gRPC servers in Go with ResourceExhausted, and
/// clients know them by that code and text (G-10).
fn as_grpc_go_says(response: Response<Body>) -> Response<Body> {
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

/// Whether a request is gRPC, by its content type.
pub fn is_grpc<B>(request: &Request<B>) -> bool {
    request.version() == http::Version::HTTP_2
        && request
            .headers()
            .get(http::header::CONTENT_TYPE)
            .map(HeaderValue::as_bytes)
            .is_some_and(|value| value.starts_with(b"application/grpc"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_timeout(value: &str) -> Option<Duration> {
        let request = Request::builder()
            .header("grpc-timeout", value)
            .body(())
            .ok()?;
        deadline(&request)
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
