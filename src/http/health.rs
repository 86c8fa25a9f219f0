//! `/health` (P-11), `/livez` and `/readyz` (P-12): may this member be sent traffic, should it be restarted?

use super::{Body, text};
use crate::api::Context;
use http::{Response, StatusCode};
use prometheus::{IntCounter, IntCounterVec, IntGaugeVec};
use rusd_messages::metrics::{counter, counters, gauges};
use rusd_proto::etcdserverpb as pb;
use std::fmt::Write;
use std::sync::LazyLock;
use std::time::Duration;

/// How long the linearizable probe may take: less than the second that probes usually allow.
const PROBE_TIMEOUT: Duration = Duration::from_millis(900);

static HEALTH_SUCCESS: LazyLock<IntCounter> =
    LazyLock::new(|| counter("etcd_server_health_success", "Successful health checks."));
static HEALTH_FAILURES: LazyLock<IntCounter> =
    LazyLock::new(|| counter("etcd_server_health_failures", "Failed health checks."));
static HEALTHCHECK: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    gauges(
        "etcd_server_healthcheck",
        "The last result of each check.",
        &["type", "name"],
    )
});
static HEALTHCHECKS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "etcd_server_healthchecks_total",
        "The results of each check.",
        &["type", "name", "status"],
    )
});

/// Registers the counters at zero.
pub fn init() {
    LazyLock::force(&HEALTH_SUCCESS);
    LazyLock::force(&HEALTH_FAILURES);
    for (kind, checks) in [("livez", LIVEZ), ("readyz", READYZ)] {
        for check in checks {
            HEALTHCHECK.with_label_values(&[kind, check.name()]);
            HEALTHCHECKS.with_label_values(&[kind, check.name(), "success"]);
            HEALTHCHECKS.with_label_values(&[kind, check.name(), "error"]);
        }
    }
}

/// The query parameters that probes understand.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Query {
    excluded: Vec<String>,
    serializable: bool,
    verbose: bool,
}

impl Query {
    /// Unknown parameters are ignored, as etcd does.
    pub fn parse(query: &str) -> Self {
        let mut parsed = Self::default();
        for part in query.split('&') {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            match name {
                "exclude" if !value.is_empty() => parsed.excluded.push(value.to_owned()),
                "serializable" => parsed.serializable = value == "true",
                "verbose" => parsed.verbose = true,
                _ => {}
            }
        }
        parsed
    }

    fn excludes(&self, name: &str) -> bool {
        self.excluded.iter().any(|excluded| excluded == name)
    }
}

/// `/health`.
pub async fn health(context: Option<&Context>, query: &Query) -> Response<Body> {
    let reason = match context {
        None => Some("RAFT NO LEADER".to_owned()),
        Some(context) => unhealthy(context, query).await,
    };
    let healthy = reason.is_none();
    if healthy {
        &*HEALTH_SUCCESS
    } else {
        &*HEALTH_FAILURES
    }
    .inc();
    let reason = serde_json::Value::from(reason.unwrap_or_default());
    let body = format!(r#"{{"health":"{healthy}","reason":{reason}}}"#);
    if healthy {
        text(StatusCode::OK, body)
    } else {
        text(StatusCode::SERVICE_UNAVAILABLE, format!("{body}\n"))
    }
}

async fn unhealthy(context: &Context, query: &Query) -> Option<String> {
    for alarm in &context.published.load().alarms {
        let kind = pb::AlarmType::try_from(alarm.alarm).unwrap_or(pb::AlarmType::None);
        let name = kind.as_str_name();
        if !query.excludes(name) {
            return Some(format!("ALARM {name}"));
        }
    }
    if !query.serializable && context.raft.leader().is_none() {
        return Some("RAFT NO LEADER".to_owned());
    }
    let read = if query.serializable {
        context
            .serializable_read()
            .map_err(|error| error.to_string())
    } else {
        linearizable_read(context).await
    };
    read.err().map(|error| format!("RANGE ERROR:{error}"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

const LIVEZ: &[Check] = &[Check::SerializableRead];
const READYZ: &[Check] = &[
    Check::DataCorruption,
    Check::SerializableRead,
    Check::LinearizableRead,
    Check::NonLearner,
];

impl Check {
    fn name(self) -> &'static str {
        match self {
            Self::DataCorruption => "data_corruption",
            Self::SerializableRead => "serializable_read",
            Self::LinearizableRead => "linearizable_read",
            Self::NonLearner => "non_learner",
        }
    }

    async fn run(self, context: Option<&Context>) -> Result<(), String> {
        let context = context.ok_or("the member has not joined the cluster yet")?;
        match self {
            Self::DataCorruption if context.published.load().has_alarm(pb::AlarmType::Corrupt) => {
                Err("alarm activated: CORRUPT".to_owned())
            }
            // A cluster of one member has no learner.
            Self::DataCorruption | Self::NonLearner => Ok(()),
            Self::SerializableRead => {
                let read = context.serializable_read();
                read.map_err(|error| format!("range error: {error}"))
            }
            Self::LinearizableRead => linearizable_read(context)
                .await
                .map_err(|error| format!("range error: {error}")),
        }
    }
}

/// `/livez`, `/readyz`, or one of their checks alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    kind: &'static str,
    checks: &'static [Check],
    single: bool,
}

impl Probe {
    /// The probe at a path.
    pub fn at(path: &str) -> Option<Self> {
        for (kind, prefix, checks) in [("livez", "/livez", LIVEZ), ("readyz", "/readyz", READYZ)] {
            let Some(rest) = path.strip_prefix(prefix) else {
                continue;
            };
            if rest.is_empty() {
                let single = false;
                return Some(Self {
                    kind,
                    checks,
                    single,
                });
            }
            let name = rest.strip_prefix('/')?;
            let at = checks.iter().position(|check| check.name() == name)?;
            let checks = checks.get(at..=at)?;
            let single = true;
            return Some(Self {
                kind,
                checks,
                single,
            });
        }
        None
    }
}

/// Runs a probe's checks.
pub async fn probe(context: Option<&Context>, probe: Probe, query: &Query) -> Response<Body> {
    let mut report = String::new();
    let mut failed = false;
    for check in probe.checks {
        let name = check.name();
        if !probe.single && query.excludes(name) {
            continue;
        }
        let result = check.run(context).await;
        let status = if result.is_ok() { "success" } else { "error" };
        HEALTHCHECK
            .with_label_values(&[probe.kind, name])
            .set(result.is_ok().into());
        HEALTHCHECKS
            .with_label_values(&[probe.kind, name, status])
            .inc();
        let _infallible = match result {
            Ok(()) => writeln!(report, "[+]{name} ok"),
            Err(reason) => {
                failed = true;
                writeln!(report, "[-]{name} failed: {reason}")
            }
        };
    }
    if failed {
        return text(StatusCode::SERVICE_UNAVAILABLE, format!("{report}\n"));
    }
    if query.verbose {
        return text(StatusCode::OK, format!("{report}ok\n"));
    }
    text(StatusCode::OK, "ok\n")
}

/// As the call, and besides fails when a thread that it may do without does not answer.
async fn linearizable_read(context: &Context) -> Result<(), String> {
    if let Some(thread) = context.heartbeats.silent() {
        return Err(format!("the {thread} thread does not answer"));
    }
    match tokio::time::timeout(PROBE_TIMEOUT, context.linearize()).await {
        Ok(Ok(())) => context
            .serializable_read()
            .map_err(|error| error.to_string()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("context deadline exceeded".to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::api::testing::World;
    use http_body_util::BodyExt;

    async fn asked(context: &Context, path: &str) -> (StatusCode, String) {
        let probe_at = Probe::at(path).unwrap();
        let response = probe(Some(context), probe_at, &Query::default()).await;
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn p_12_a_member_whose_raft_thread_hangs_is_alive_and_not_ready() {
        let world = World::new();
        let context = world.api.context();
        let alive = (StatusCode::OK, "ok\n".to_owned());
        assert_eq!(asked(context, "/readyz").await, alive);
        context.heartbeats.until_silent(Some("Raft")).await;
        let (status, report) = asked(context, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        let line = "[-]linearizable_read failed: range error: the Raft thread does not answer\n";
        assert!(report.contains(line), "{report}");
        assert!(report.contains("[+]serializable_read ok\n"), "{report}");
        assert_eq!(asked(context, "/livez").await, alive);
        world.answer_heartbeats();
        context.heartbeats.until_silent(None).await;
        assert_eq!(asked(context, "/readyz").await, alive);
    }

    #[test]
    fn p_11_queries_repeat_and_unknown_ones_are_ignored() {
        let query = Query::parse("exclude=NOSPACE&serializable=true&exclude=CORRUPT&x&=");
        assert!(query.excludes("NOSPACE") && query.excludes("CORRUPT") && query.serializable);
        assert_eq!(Query::parse(""), Query::default());
    }

    #[test]
    fn p_12_each_check_has_a_path_of_its_own() {
        assert_eq!(Probe::at("/livez").map(|p| p.checks.len()), Some(1));
        assert_eq!(Probe::at("/readyz").map(|p| p.checks.len()), Some(4));
        assert_eq!(
            Probe::at("/readyz/non_learner").map(|p| p.checks),
            Some(&[Check::NonLearner][..])
        );
        assert_eq!(Probe::at("/livez/non_learner"), None);
        assert_eq!(Probe::at("/readyzx"), None);
    }
}
