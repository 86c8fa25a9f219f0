//! Settings of logs, metrics and tracing.

use super::Section::Monitoring;
use super::Status::{NotBuilt, Works};
use super::{Flag, flag};
use crate::config::value::Kind::{Bool, Choice, Duration, Int, List, Text, Urls, Word};
use crate::config::{LogFormat, LogLevel, MetricsDetail};

const TRACING: &str = "distributed tracing is";

pub(super) const FLAGS: &[Flag] = &[
    flag(
        "enable-pprof",
        Monitoring,
        Bool,
        "false",
        NotBuilt("profiling over HTTP is"),
        "Serve profiles of the process over HTTP.",
    ),
    flag(
        "metrics",
        Monitoring,
        Word(MetricsDetail::WORDS),
        MetricsDetail::Basic.as_str(),
        Works,
        "Detail of the metrics; extensive adds histograms of how long gRPC calls take.",
    ),
    flag(
        "listen-metrics-urls",
        Monitoring,
        Urls,
        "",
        Works,
        "URLs to listen on for metrics and health checks only.",
    ),
    flag(
        "logger",
        Monitoring,
        Word(&["zap"]),
        "zap",
        Works,
        "Kind of structured log; zap is the only one.",
    ),
    flag(
        "log-outputs",
        Monitoring,
        List,
        "default",
        Works,
        "Where log lines go: stderr, stdout or file paths. default is stderr and stands alone.",
    ),
    flag(
        "log-level",
        Monitoring,
        Choice(LogLevel::WORDS),
        LogLevel::Info.as_str(),
        Works,
        "Lowest level of lines that are logged.",
    ),
    flag(
        "log-format",
        Monitoring,
        Word(LogFormat::WORDS),
        LogFormat::Json.as_str(),
        Works,
        "Form of a log line: json, console (tab-separated, as etcd prints it) or text (key=value).",
    ),
    flag(
        "enable-log-rotation",
        Monitoring,
        Bool,
        "false",
        Works,
        "Rotate the log file; needs exactly one file in log-outputs.",
    ),
    flag(
        "log-rotation-config-json",
        Monitoring,
        Text,
        r#"{"maxsize":100,"maxage":0,"maxbackups":0,"localtime":false,"compress":false}"#,
        Works,
        "When to rotate: size in MB, age in days and number of old files (0: no limit). Times are UTC and old files are not compressed.",
    ),
    flag(
        "warning-unary-request-duration",
        Monitoring,
        Duration,
        "300ms",
        Works,
        "Time above which a unary request is logged as slow.",
    ),
    flag(
        "warning-apply-duration",
        Monitoring,
        Duration,
        "100ms",
        Works,
        "Time above which applying an entry is logged as slow.",
    ),
    flag(
        "enable-distributed-tracing",
        Monitoring,
        Bool,
        "false",
        NotBuilt(TRACING),
        "Send OpenTelemetry traces.",
    ),
    flag(
        "distributed-tracing-address",
        Monitoring,
        Text,
        "localhost:4317",
        NotBuilt(TRACING),
        "Address of the trace collector.",
    ),
    flag(
        "distributed-tracing-service-name",
        Monitoring,
        Text,
        "etcd",
        NotBuilt(TRACING),
        "Service name in traces.",
    ),
    flag(
        "distributed-tracing-instance-id",
        Monitoring,
        Text,
        "",
        NotBuilt(TRACING),
        "Instance id in traces.",
    ),
    flag(
        "distributed-tracing-sampling-rate",
        Monitoring,
        Int,
        "0",
        NotBuilt(TRACING),
        "Traces to sample per million.",
    ),
];
