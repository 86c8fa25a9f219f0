//! The counters of gRPC calls that etcd's dashboard and alerts read.

use http::Response;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts,
    register_histogram_vec, register_int_counter_vec,
};
use std::collections::HashMap;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tonic::body::Body;

/// How a call streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallType {
    /// One request, one response.
    Unary,
    /// One request, many responses.
    ServerStream,
    /// Many of both.
    BidiStream,
}

impl CallType {
    fn label(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::ServerStream => "server_stream",
            Self::BidiStream => "bidi_stream",
        }
    }
}

const SERVICES: [(&str, &[(&str, CallType)]); 6] = [
    (
        "etcdserverpb.KV",
        &[
            ("Range", CallType::Unary),
            ("RangeStream", CallType::ServerStream),
            ("Put", CallType::Unary),
            ("DeleteRange", CallType::Unary),
            ("Txn", CallType::Unary),
            ("Compact", CallType::Unary),
        ],
    ),
    ("etcdserverpb.Watch", &[("Watch", CallType::BidiStream)]),
    (
        "etcdserverpb.Lease",
        &[
            ("LeaseGrant", CallType::Unary),
            ("LeaseRevoke", CallType::Unary),
            ("LeaseKeepAlive", CallType::BidiStream),
            ("LeaseTimeToLive", CallType::Unary),
            ("LeaseLeases", CallType::Unary),
        ],
    ),
    (
        "etcdserverpb.Cluster",
        &[
            ("MemberAdd", CallType::Unary),
            ("MemberRemove", CallType::Unary),
            ("MemberUpdate", CallType::Unary),
            ("MemberList", CallType::Unary),
            ("MemberPromote", CallType::Unary),
        ],
    ),
    (
        "etcdserverpb.Maintenance",
        &[
            ("Alarm", CallType::Unary),
            ("Status", CallType::Unary),
            ("Defragment", CallType::Unary),
            ("Hash", CallType::Unary),
            ("HashKV", CallType::Unary),
            ("Snapshot", CallType::ServerStream),
            ("MoveLeader", CallType::Unary),
            ("Downgrade", CallType::Unary),
        ],
    ),
    (
        "etcdserverpb.Auth",
        &[
            ("AuthEnable", CallType::Unary),
            ("AuthDisable", CallType::Unary),
            ("AuthStatus", CallType::Unary),
            ("Authenticate", CallType::Unary),
            ("UserAdd", CallType::Unary),
            ("UserGet", CallType::Unary),
            ("UserList", CallType::Unary),
            ("UserDelete", CallType::Unary),
            ("UserChangePassword", CallType::Unary),
            ("UserGrantRole", CallType::Unary),
            ("UserRevokeRole", CallType::Unary),
            ("RoleAdd", CallType::Unary),
            ("RoleGet", CallType::Unary),
            ("RoleList", CallType::Unary),
            ("RoleDelete", CallType::Unary),
            ("RoleGrantPermission", CallType::Unary),
            ("RoleRevokePermission", CallType::Unary),
        ],
    ),
];

/// gRPC's names of its codes, by number.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];
const UNKNOWN: usize = 2;

const METHOD_LABELS: [&str; 3] = ["grpc_type", "grpc_service", "grpc_method"];

#[allow(clippy::expect_used)] // Fails only for a name that is misspelt or registered twice: constants here.
fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register_int_counter_vec!(Opts::new(name, help), labels)
        .expect("a valid metric, registered once")
}

static STARTED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "grpc_server_started_total",
        "Calls started on the server.",
        &METHOD_LABELS,
    )
});
static RECEIVED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "grpc_server_msg_received_total",
        "Messages received from clients.",
        &METHOD_LABELS,
    )
});
static SENT: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "grpc_server_msg_sent_total",
        "Messages sent to clients.",
        &METHOD_LABELS,
    )
});
static HANDLED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "grpc_server_handled_total",
        "Calls completed on the server, successful or not.",
        &["grpc_type", "grpc_service", "grpc_method", "grpc_code"],
    )
});
static CLIENT_REQUESTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "etcd_server_client_requests_total",
        "Client requests by kind of call and API version of the client.",
        &["type", "client_api_version"],
    )
});
#[allow(clippy::expect_used)] // As in `counters`.
static HANDLING_SECONDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    register_histogram_vec!(
        HistogramOpts::new(
            "grpc_server_handling_seconds",
            "Time until the server has answered a call."
        ),
        &METHOD_LABELS
    )
    .expect("a valid metric, registered once")
});

static EXTENSIVE: AtomicBool = AtomicBool::new(false);

/// One RPC and its counters.
#[derive(Debug)]
pub struct Method {
    /// `/service/method`.
    pub path: &'static str,
    /// The service's full name.
    pub service: &'static str,
    /// How it streams.
    pub kind: CallType,
    name: &'static str,
    started: IntCounter,
    received: IntCounter,
    sent: IntCounter,
    /// By code: all of them at zero, or the first failure of a kind would be no increase that a rule can see.
    handled: [IntCounter; CODES.len()],
    requests_unversioned: IntCounter,
}

static METHODS: LazyLock<HashMap<&'static str, Method>> = LazyLock::new(|| {
    let mut methods = HashMap::new();
    for (service, names) in SERVICES {
        for (name, kind) in names {
            let path: &'static str = Box::leak(format!("/{service}/{name}").into_boxed_str());
            let labels = [kind.label(), service, *name];
            let method = Method {
                path,
                service,
                kind: *kind,
                name,
                started: STARTED.with_label_values(&labels),
                received: RECEIVED.with_label_values(&labels),
                sent: SENT.with_label_values(&labels),
                handled: CODES.map(|code| {
                    HANDLED.with_label_values(&[labels[0], labels[1], labels[2], code])
                }),
                requests_unversioned: CLIENT_REQUESTS.with_label_values(&[kind.label(), "unknown"]),
            };
            methods.insert(path, method);
        }
    }
    methods
});

/// Registers every counter at zero, as scrapers expect; `extensive` adds the duration histogram.
pub fn init(extensive: bool) {
    EXTENSIVE.store(extensive, Ordering::Relaxed);
    LazyLock::force(&METHODS);
    super::durations::init();
}

/// The method at a path, if it is one of etcd's.
pub fn method(path: &str) -> Option<&'static Method> {
    METHODS.get(path)
}

/// Whether a service of this full name exists.
pub fn is_service(name: &str) -> bool {
    SERVICES.iter().any(|(service, _)| *service == name)
}

/// Counts a call by its client's API version.
pub fn count_client_request(method: &'static Method, api_version: &str) {
    // The label comes from the client: only what looks like a version becomes a time series of its own.
    let is_version = api_version.len() <= 16 && api_version.starts_with("3.");
    if is_version {
        CLIENT_REQUESTS
            .with_label_values(&[method.kind.label(), api_version])
            .inc();
    } else {
        method.requests_unversioned.inc();
    }
}

impl Method {
    /// Counts a call as started.
    pub fn start(&'static self) -> CallMetrics {
        self.started.inc();
        if self.kind != CallType::BidiStream {
            self.received.inc();
        }
        CallMetrics {
            method: self,
            started: Instant::now(),
        }
    }

    /// Counts a message received on a stream.
    pub fn message_received(&self) {
        self.received.inc();
    }

    /// Counts a message sent on a stream.
    pub fn message_sent(&self) {
        self.sent.inc();
    }

    fn handled(&self, code: usize, started: Instant) {
        self.handled
            .get(code)
            .unwrap_or(&self.handled[UNKNOWN])
            .inc();
        if EXTENSIVE.load(Ordering::Relaxed) {
            self.duration().observe(started.elapsed().as_secs_f64());
        }
    }

    fn duration(&self) -> Histogram {
        HANDLING_SECONDS.with_label_values(&[self.kind.label(), self.service, self.name])
    }
}

/// The receiving side of a stream. gRPC servers in Go count what they try to receive, so the end counts as a message.
#[derive(Debug)]
pub struct Received {
    method: Option<&'static Method>,
}

impl Received {
    /// Of the method at a path.
    pub fn on(path: &str) -> Self {
        Self {
            method: method(path),
        }
    }

    /// Counts a message.
    pub fn message(&self) {
        if let Some(method) = self.method {
            method.message_received();
        }
    }
}

/// The stream is over.
impl Drop for Received {
    fn drop(&mut self) {
        self.message();
    }
}

/// A call under way.
#[derive(Debug)]
pub struct CallMetrics {
    method: &'static Method,
    /// When it came.
    pub started: Instant,
}

impl CallMetrics {
    /// Counts the call as handled: at once if it is unary or failed, else when its stream ends.
    pub fn finish(self, response: Response<Body>) -> Response<Body> {
        let failed = response.headers().get("grpc-status").map(|code| {
            let code = code.to_str().ok().and_then(|code| code.parse().ok());
            code.unwrap_or(UNKNOWN)
        });
        match (failed, self.method.kind) {
            (Some(code), _) => self.method.handled(code, self.started),
            (None, CallType::Unary) => {
                self.method.sent.inc();
                self.method.handled(0, self.started);
            }
            (None, _) => {
                return response.map(|body| {
                    Body::new(Observed {
                        body,
                        end: StreamEnd {
                            call: self,
                            counted: false,
                        },
                    })
                });
            }
        }
        response
    }
}

/// Counts a stream as handled when its body ends, with the code of its trailers; a stream that is
/// dropped before was cancelled by its client.
struct Observed {
    body: Body,
    end: StreamEnd,
}

struct StreamEnd {
    call: CallMetrics,
    counted: bool,
}

impl StreamEnd {
    fn ended(&mut self, code: usize) {
        if !std::mem::replace(&mut self.counted, true) {
            self.call.method.handled(code, self.call.started);
        }
    }
}

impl Drop for StreamEnd {
    fn drop(&mut self) {
        const CANCELED: usize = 1;
        self.ended(CANCELED);
    }
}

impl http_body::Body for Observed {
    type Data = bytes::Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        let polled = std::pin::Pin::new(&mut self.body).poll_frame(cx);
        if let std::task::Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(trailers) = frame.trailers_ref()
        {
            let code = trailers
                .get("grpc-status")
                .and_then(|code| code.to_str().ok());
            self.end
                .ended(code.and_then(|code| code.parse().ok()).unwrap_or(UNKNOWN));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
