//! The one place where a metric is registered, so that no room repeats how.
//!
//! Names, help texts and buckets are constants of this program: a wrong one fails the first test that touches it,
//! which is why registering may panic here and nowhere else.

use prometheus::core::Collector;
use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts,
};

/// Registers what a constructor of the `prometheus` crate has made.
#[allow(clippy::expect_used)] // Only a misspelt constant can fail here, and every test run would show it.
pub fn registered<M: Collector + Clone + 'static>(metric: prometheus::Result<M>) -> M {
    let metric = metric.expect("the metric's name, labels and buckets are valid");
    prometheus::register(Box::new(metric.clone())).expect("the metric is registered once");
    metric
}

/// A counter without labels.
pub fn counter(name: &str, help: &str) -> IntCounter {
    registered(IntCounter::new(name, help))
}

/// A counter for each combination of `labels`.
pub fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    registered(IntCounterVec::new(Opts::new(name, help), labels))
}

/// A gauge of whole numbers without labels.
pub fn gauge(name: &str, help: &str) -> IntGauge {
    registered(IntGauge::new(name, help))
}

/// A gauge of fractions without labels.
pub fn float_gauge(name: &str, help: &str) -> Gauge {
    registered(Gauge::new(name, help))
}

/// A gauge of whole numbers for each combination of `labels`.
pub fn gauges(name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    registered(IntGaugeVec::new(Opts::new(name, help), labels))
}

/// A histogram with `count` buckets, the first up to `start`, each `factor` times the one before.
pub fn histogram(name: &str, help: &str, (start, factor, count): (f64, f64, usize)) -> Histogram {
    let options = prometheus::exponential_buckets(start, factor, count)
        .map(|buckets| HistogramOpts::new(name, help).buckets(buckets));
    registered(options.and_then(Histogram::with_opts))
}

/// As [`histogram`], for each combination of `labels`.
pub fn histograms(
    name: &str,
    help: &str,
    labels: &[&str],
    (start, factor, count): (f64, f64, usize),
) -> HistogramVec {
    let options = prometheus::exponential_buckets(start, factor, count)
        .map(|buckets| HistogramOpts::new(name, help).buckets(buckets));
    registered(options.and_then(|options| HistogramVec::new(options, labels)))
}
