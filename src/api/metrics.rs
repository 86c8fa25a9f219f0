//! The counters of calls that etcd's dashboard and alerts read. They are named after gRPC, and count every transport.

use super::caller::ApiVersion;
use super::rpcs::{CallType, Rpc};
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec};
use rusd_messages::metrics::{counters, registered};
use rusd_proto::{Code, EtcdError};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

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

const RPC_LABELS: [&str; 3] = ["grpc_type", "grpc_service", "grpc_method"];

static STARTED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "grpc_server_started_total",
        "Calls started on the server.",
        &RPC_LABELS,
    )
});
static RECEIVED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "grpc_server_msg_received_total",
        "Messages received from clients.",
        &RPC_LABELS,
    )
});
static SENT: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "grpc_server_msg_sent_total",
        "Messages sent to clients.",
        &RPC_LABELS,
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
static HANDLING_SECONDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    let options = HistogramOpts::new(
        "grpc_server_handling_seconds",
        "Time until the server has answered a call.",
    );
    registered(HistogramVec::new(options, &RPC_LABELS))
});

static EXTENSIVE: AtomicBool = AtomicBool::new(false);

/// The counters of one call, looked up once.
#[derive(Debug)]
pub struct RpcCounters {
    rpc: Rpc,
    started: IntCounter,
    received: IntCounter,
    sent: IntCounter,
    /// By code: all of them at zero, or the first failure of a kind would be no increase that a rule can see.
    handled: [IntCounter; CODES.len()],
    requests_unversioned: IntCounter,
}

static ALL: LazyLock<[RpcCounters; Rpc::COUNT]> = LazyLock::new(|| Rpc::ALL.map(RpcCounters::new));

/// Registers every counter at zero, as scrapers expect; `extensive` adds the duration histogram.
pub fn init(extensive: bool) {
    EXTENSIVE.store(extensive, Ordering::Relaxed);
    LazyLock::force(&ALL);
    super::durations::init();
}

impl RpcCounters {
    fn new(rpc: Rpc) -> Self {
        let [kind, service, name] = labels(rpc);
        Self {
            rpc,
            started: STARTED.with_label_values(&labels(rpc)),
            received: RECEIVED.with_label_values(&labels(rpc)),
            sent: SENT.with_label_values(&labels(rpc)),
            handled: CODES.map(|code| HANDLED.with_label_values(&[kind, service, name, code])),
            requests_unversioned: CLIENT_REQUESTS.with_label_values(&[kind, "unknown"]),
        }
    }

    /// The counters of a call.
    pub fn of(rpc: Rpc) -> &'static Self {
        &ALL[rpc as usize]
    }

    /// Counts a call as started.
    pub fn start(&self, api_version: &ApiVersion) {
        self.started.inc();
        if self.rpc.kind() != CallType::BidiStream {
            self.received.inc();
        }
        match api_version.known() {
            Some(version) => CLIENT_REQUESTS
                .with_label_values(&[self.rpc.kind().label(), version])
                .inc(),
            None if *api_version == ApiVersion::NotText => {}
            None => self.requests_unversioned.inc(),
        }
    }

    /// Counts a message that was received on a stream.
    pub fn message_received(&self) {
        self.received.inc();
    }

    /// Counts a message that was sent.
    pub fn message_sent(&self) {
        self.sent.inc();
    }

    /// Counts a call that began at `started` as handled.
    pub fn handled(&self, code: Code, started: Instant) {
        self.handled[code as usize].inc();
        if EXTENSIVE.load(Ordering::Relaxed) {
            self.duration().observe(started.elapsed().as_secs_f64());
        }
    }

    /// How many calls were handled with this code.
    #[cfg(test)]
    pub(crate) fn handled_with(&self, code: Code) -> u64 {
        self.handled[code as usize].get()
    }

    fn duration(&self) -> Histogram {
        HANDLING_SECONDS.with_label_values(&labels(self.rpc))
    }
}

fn labels(rpc: Rpc) -> [&'static str; 3] {
    [rpc.kind().label(), rpc.service().name(), rpc.name()]
}

/// The code that an answer is counted under.
pub fn code<T>(answer: &Result<T, EtcdError>) -> Code {
    answer.as_ref().err().map_or(Code::Ok, EtcdError::code)
}

/// The receiving side of a stream. gRPC servers in Go count what they try to receive, so the end counts as a message.
#[derive(Debug)]
pub struct Received(&'static RpcCounters);

impl Received {
    /// Nothing received yet.
    pub fn on(rpc: Rpc) -> Self {
        Self(RpcCounters::of(rpc))
    }

    /// Counts a message.
    pub fn message(&self) {
        self.0.message_received();
    }
}

/// The stream is over.
impl Drop for Received {
    fn drop(&mut self) {
        self.message();
    }
}
