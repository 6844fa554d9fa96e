//! What Prometheus reads: counters under their names, times as histograms in seconds, gauges of users and sockets.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use hdrhistogram::Histogram;
use hyper::body::Bytes;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::{Shared, lock};
use crate::outcome::Outcome;

/// Upper edges, in seconds: from what a fast answer on this machine takes to the longest timeouts.
const EDGES_S: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Families whose last part is a label: (prefix of ours, metric, label).
const FAMILIES: [(&str, &str, &str); 4] = [
    ("http.codes.", "http_responses_by_code", "code"),
    ("errors.", "errors", "error"),
    ("vusers.created_by_name.", "vusers_created_by_scenario", "scenario"),
    ("plugins.metrics-by-endpoint.response_time.", "endpoint_response", "endpoint"),
];

pub(super) fn metrics(shared: &Shared) -> Option<Bytes> {
    let latest = Arc::clone(lock(&shared.history).latest.as_ref()?);
    let mut registry = Registry::with_prefix("drumfire");
    registry.register_collector(Box::new(Run(latest)));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).ok()?;
    Some(Bytes::from(text))
}

#[derive(Debug)]
struct Run(Arc<Outcome>);

/// A metric's name, and its label when it belongs to a family.
fn named(name: &str) -> (String, Option<[(&'static str, String); 1]>) {
    for (prefix, family, label) in FAMILIES {
        if let Some(value) = name.strip_prefix(prefix) {
            return (family.to_owned(), Some([(label, value.to_owned())]));
        }
    }
    let name = name.strip_prefix("drumfire.").unwrap_or(name);
    let clean = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let mut clean: String = name.chars().map(clean).collect();
    if clean.starts_with(|c: char| c.is_ascii_digit()) {
        clean.insert(0, '_');
    }
    // The unit stands at the end of a time's name.
    let clean = clean.strip_suffix("_time").map_or(clean.clone(), str::to_owned);
    (clean, None)
}

/// Of one metric: label and value of each member.
type Members<'a, T> = Vec<(Option<[(&'static str, String); 1]>, &'a T)>;

fn grouped<T>(all: &BTreeMap<String, T>) -> BTreeMap<String, Members<'_, T>> {
    let mut groups: BTreeMap<String, Members<'_, T>> = BTreeMap::new();
    for (name, value) in all {
        let (metric, label) = named(name);
        let members = groups.entry(metric).or_default();
        // Two names that differ only in signs would be one metric told twice.
        if label.is_some() || members.is_empty() {
            members.push((label, value));
        }
    }
    groups
}

impl Collector for Run {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let total = &self.0.total;
        for (name, members) in grouped(&total.counters) {
            let help = "Counted since the run began";
            let mut metric = encoder.encode_descriptor(&name, help, None, MetricType::Counter)?;
            for (label, n) in members {
                let counter = ConstCounter::new(*n);
                match label {
                    Some(label) => counter.encode(metric.encode_family(&label)?)?,
                    None => {
                        metric.encode_counter::<NoLabelSet, _, f64>(n, None)?;
                    }
                }
            }
        }
        for (name, members) in grouped(&total.histograms) {
            let unit = Unit::Seconds;
            let help = "Times since the run began";
            let mut metric = encoder.encode_descriptor(&name, help, Some(&unit), MetricType::Histogram)?;
            for (label, histogram) in members {
                let (sum, buckets) = buckets(histogram);
                match label {
                    Some(label) => metric.encode_family(&label)?.encode_histogram::<NoLabelSet>(
                        sum,
                        histogram.len(),
                        &buckets,
                        None,
                    )?,
                    None => metric.encode_histogram::<NoLabelSet>(sum, histogram.len(), &buckets, None)?,
                }
            }
        }
        for (name, help, value) in [
            ("users", "Users alive, at most", total.concurrent_users),
            ("connections", "Sockets open, at most", total.connections),
            ("run_valid", "1 while the run's figures may be believed", u64::from(self.0.validity.valid)),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        let elapsed = ConstGauge::new(total.length_s);
        elapsed.encode(encoder.encode_descriptor(
            "elapsed",
            "Since the first phase began",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?)
    }
}

/// Sum in seconds, and how many lie in each bucket (not below its edge: the encoder adds them up).
fn buckets(histogram: &Histogram<u64>) -> (f64, Vec<(f64, u64)>) {
    let mut buckets: Vec<(f64, u64)> =
        EDGES_S.iter().copied().chain([f64::INFINITY]).map(|edge| (edge, 0)).collect();
    let mut sum = 0.0;
    for step in histogram.iter_recorded() {
        let (seconds, n) = (step.value_iterated_to() as f64 / 1e6, step.count_since_last_iteration());
        sum += seconds * n as f64;
        let at = EDGES_S.iter().position(|edge| seconds <= *edge).unwrap_or(EDGES_S.len());
        buckets[at].1 += n;
    }
    (sum, buckets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_metrics_and_labels() {
        let plain = |name: &str| named(name).0;
        assert_eq!(plain("vusers.created"), "vusers_created");
        assert_eq!(plain("http.response_time"), "http_response");
        assert_eq!(plain("drumfire.delivery.expected"), "delivery_expected");
        let (metric, label) = named("errors.exception 400: lng");
        assert_eq!((metric.as_str(), label), ("errors", Some([("error", "exception 400: lng".to_owned())])));
    }

    #[test]
    fn every_time_is_in_one_bucket() {
        let mut histogram = Histogram::new(3).expect("3 digits");
        for us in [100, 900, 1_000_000, 90_000_000] {
            histogram.record(us).expect("grows");
        }
        let (sum, buckets) = buckets(&histogram);
        assert!((sum - 91.0).abs() < 0.2, "{sum}");
        assert_eq!(buckets.iter().map(|b| b.1).sum::<u64>(), 4);
        assert_eq!((buckets[0].1, buckets[1].1, buckets.last().map(|b| b.1)), (1, 1, Some(1)));
    }
}
