//! gRPC: decode, call [`Api`], map the status. What a request does, what it must meet and how it is
//! counted is the same for every transport, and not here.

mod go_compat;
mod large_reply;
mod metadata;
mod services;
mod status;

use crate::api::{Api, CallType, Peer, Rpc, Service, context::TRANSPORT_OVERHEAD_BYTES};
use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use metadata::Deadline;
use rusd_proto::EtcdError;
use rusd_proto::etcdserverpb::{
    auth_server::AuthServer, cluster_server::ClusterServer, kv_server::KvServer,
    lease_server::LeaseServer, maintenance_server::MaintenanceServer, watch_server::WatchServer,
};
use services::Services;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tonic::Status;
use tonic::body::Body;
use tonic_health::pb::health_server::{Health, HealthServer};
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;
use tower_service::Service as _;
use tracing::warn;

/// How long after its deadline a call is given up here. Once its message has been read, its answer at the deadline
/// itself comes from [`Api`], which counts it.
const DEADLINE_GRACE: Duration = Duration::from_millis(100);

/// A service that is called by name and not counted.
type OtherService = BoxCloneSyncService<Request<Incoming>, Response<Body>, Infallible>;

type Answer = BoxFuture<'static, Result<Response<Body>, Infallible>>;

/// The services of this member.
pub struct Grpc {
    api: Arc<Api>,
    /// What a message from a client may have at most.
    message_bytes_max: usize,
    /// Health and reflection: what etcd's dashboards do not count.
    others: Vec<(&'static str, OtherService)>,
}

impl Grpc {
    /// etcd's services over `api`, health and reflection.
    pub fn new(api: Arc<Api>, health: HealthServer<impl Health>) -> Self {
        let mut others = vec![("grpc.health.v1.Health", OtherService::new(health))];
        match reflection() {
            Ok(reflection) => others.extend(reflection),
            Err(error) => warn!(%error, "gRPC reflection is not available"),
        }
        let message_bytes_max = api.context().limits.max_request_bytes + TRANSPORT_OVERHEAD_BYTES;
        Self {
            api,
            message_bytes_max,
            others,
        }
    }
}

/// The services as one connection sees them: its calls carry who is at its other end.
#[derive(Clone)]
pub struct Connection {
    grpc: Arc<Grpc>,
    services: Arc<Services>,
}

impl Connection {
    /// For a connection from `peer`.
    pub fn new(grpc: Arc<Grpc>, peer: Arc<Peer>) -> Self {
        let services = Arc::new(Services::new(grpc.api.clone(), peer));
        Self { grpc, services }
    }

    /// Answers one call.
    pub fn call(&self, request: Request<Incoming>) -> BoxFuture<'static, Response<Body>> {
        let answer = match Rpc::at(request.uri().path()) {
            Some(rpc) => self.answer_in_time(rpc, request),
            None => self.answer_other(request),
        };
        Box::pin(async move {
            let Ok(response) = answer.await;
            large_reply::in_pieces(go_compat::as_grpc_go_says(response))
        })
    }

    /// Answers a call before its deadline, which counts from the arrival of its headers: its message may come late, or
    /// never.
    fn answer_in_time(&self, rpc: Rpc, mut request: Request<Incoming>) -> Answer {
        let deadline = match rpc.kind() {
            CallType::Unary => Deadline::of(request.headers()),
            CallType::ServerStream | CallType::BidiStream => None,
        };
        let Some(deadline) = deadline else {
            return self.answer(rpc.service(), request);
        };
        request.extensions_mut().insert(deadline);
        let answer = self.answer(rpc.service(), request);
        let given_up = deadline.0.checked_add(DEADLINE_GRACE).unwrap_or(deadline.0);
        Box::pin(async move {
            tokio::time::timeout_at(given_up.into(), answer)
                .await
                .unwrap_or_else(|_| Ok(status::status(EtcdError::DeadlineExceeded).into_http()))
        })
    }

    fn answer(&self, service: Service, request: Request<Incoming>) -> Answer {
        macro_rules! served_by {
            ($server:ident) => {
                Box::pin(
                    $server::from_arc(self.services.clone())
                        .max_decoding_message_size(self.grpc.message_bytes_max)
                        .max_encoding_message_size(i32::MAX as usize)
                        .call(request),
                )
            };
        }
        match service {
            Service::Kv => served_by!(KvServer),
            Service::Watch => served_by!(WatchServer),
            Service::Lease => served_by!(LeaseServer),
            Service::Cluster => served_by!(ClusterServer),
            Service::Maintenance => served_by!(MaintenanceServer),
            Service::Auth => served_by!(AuthServer),
        }
    }

    /// Calls that etcd's dashboards do not count: health, reflection, and what does not exist.
    fn answer_other(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path();
        let service = path
            .trim_start_matches('/')
            .split('/')
            .next()
            .unwrap_or_default();
        let others = &self.grpc.others;
        if let Some((_, other)) = others.iter().find(|(name, _)| *name == service) {
            return Box::pin(other.clone().oneshot(request));
        }
        let text = if Service::exists(service) {
            let rpc = path.rsplit('/').next().unwrap_or_default();
            format!("unknown method {rpc} for service {service}")
        } else {
            format!("unknown service {service}")
        };
        let response = Status::unimplemented(text).into_http();
        Box::pin(std::future::ready(Ok(response)))
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

/// Whether a request is gRPC, by its content type.
pub fn is_grpc<B>(request: &Request<B>) -> bool {
    request.version() == http::Version::HTTP_2
        && request
            .headers()
            .get(http::header::CONTENT_TYPE)
            .map(HeaderValue::as_bytes)
            .is_some_and(|value| value.starts_with(b"application/grpc"))
}
