//! What Prometheus reads at `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use socketio_server::Stats;

use crate::refusal::RefusalKind;
use crate::world::{PerWorld, World};

/// Where a message's time goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Reading and checking the event.
    Parse,
    /// From taking the message to having it stored; waiting for the group included.
    Commit,
    /// Finding who hears and appending to their outboxes.
    Match,
    /// From stored to taken up by a worker; from there to the write is `write`'s queue.
    Queue,
    /// One connection's write call.
    Write,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct WorldValue(World);

impl EncodeLabelValue for WorldValue {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        EncodeLabelValue::encode(&self.0.name(), encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    code: u32,
}

/// Which limit per address refused a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressLimit {
    /// `limits.per_address`.
    Rate,
    /// `limits.connections_per_address`.
    Connections,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AddressLabel {
    limit: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// All of the process's measurements; shared by every thread.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    stages: [Histogram; 4],
    worlds: PerWorld<WorldCounters>,
    refusals: Family<CodeLabel, Counter>,
    addresses_refused: Family<AddressLabel, Counter>,
    pub alerts: Counter,
    pub alerts_folded: Counter,
    pub pushes_queued: Counter,
    pub pushes_folded: Counter,
    pub pushes_dropped: Counter,
    pub pushes_received: Counter,
    pub people: Family<PeopleLabel, Gauge>,
    pub accept_pauses: Counter,
    pub caught_up: Counter,
    pub not_recovered: Counter,
    tls_reloads: Family<ResultLabel, Counter>,
    /// Unix seconds; 0 without TLS.
    tls_certificate_expires: AtomicU64,
    /// One per worker, added up when read.
    servers: Vec<Arc<Stats>>,
}

type ServerCounter = fn(&Stats) -> &AtomicU64;

/// `world="live"|"test"`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PeopleLabel {
    world: WorldValue,
}

#[derive(Debug, Default)]
struct WorldCounters {
    commits: AtomicU64,
    rollbacks: AtomicU64,
    messages: AtomicU64,
    deliveries: AtomicU64,
    clock_jumps: AtomicU64,
}

impl Metrics {
    pub fn new(servers: Vec<Arc<Stats>>) -> Self {
        let mut registry = Registry::with_prefix("dna");
        // 10 us to 10 s, doubling and halving around the decades.
        let stages = ["parse", "commit", "match", "queue"].map(|stage| {
            let histogram = Histogram::new([
                1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2,
                0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0,
            ]);
            let help = match stage {
                "parse" => "Reading and checking an event",
                "commit" => "From taking a message to having it stored",
                "match" => "Finding who hears a message and appending to their outboxes",
                _ => "From stored to taken up by a worker",
            };
            registry.register_with_unit(format!("stage_{stage}"), help, Unit::Seconds, histogram.clone());
            histogram
        });
        let counter = |registry: &mut Registry, name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let refusals = Family::default();
        registry.register("refusals", "Refused events by code (docs/events.md)", refusals.clone());
        let addresses_refused = Family::default();
        registry.register(
            "addresses_refused",
            "Connections refused at accept by a limit per address",
            addresses_refused.clone(),
        );
        let people = Family::default();
        registry.register("people", "Connections on the map", people.clone());
        let alerts = counter(&mut registry, "alerts", "speaker events sent");
        let alerts_folded = counter(&mut registry, "alerts_folded", "Alerts folded into a later one");
        let pushes_queued = counter(&mut registry, "pushes_queued", "Alerts handed to the push queue");
        let pushes_folded =
            counter(&mut registry, "pushes_folded", "Pushes folded into a later one of the same user");
        let pushes_dropped = counter(
            &mut registry,
            "pushes_dropped",
            "Pushes dropped: the queue was full or the receiver failed",
        );
        let pushes_received =
            counter(&mut registry, "pushes_received", "Pushes counted by the test world's loopback receiver");
        let accept_pauses =
            counter(&mut registry, "accept_pauses", "Times accepting paused for want of descriptors");
        let caught_up = counter(&mut registry, "caught_up", "Returning connections told all they had missed");
        let not_recovered =
            counter(&mut registry, "not_recovered", "Returning connections told that the gap is too large");
        let tls_reloads = Family::default();
        registry.register("tls_reloads", "Times the TLS files were read again", tls_reloads.clone());
        Self {
            registry,
            stages,
            worlds: PerWorld::default(),
            refusals,
            addresses_refused,
            alerts,
            alerts_folded,
            pushes_queued,
            pushes_folded,
            pushes_dropped,
            pushes_received,
            people,
            accept_pauses,
            caught_up,
            not_recovered,
            tls_reloads,
            tls_certificate_expires: AtomicU64::new(0),
            servers,
        }
    }

    pub fn observe(&self, stage: Stage, took: Duration) {
        let histogram = match stage {
            Stage::Parse => &self.stages[0],
            Stage::Commit => &self.stages[1],
            Stage::Match => &self.stages[2],
            Stage::Queue => &self.stages[3],
            // Kept by the transport, beside the call itself.
            Stage::Write => return,
        };
        histogram.observe(took.as_secs_f64());
    }

    /// One commit of `messages` messages.
    pub fn committed(&self, world: World, messages: u64) {
        let counters = self.worlds.get(world);
        counters.commits.fetch_add(1, Ordering::Relaxed);
        counters.messages.fetch_add(messages, Ordering::Relaxed);
    }

    pub fn rolled_back(&self, world: World) {
        self.worlds.get(world).rollbacks.fetch_add(1, Ordering::Relaxed);
    }

    pub fn delivered(&self, world: World, count: u64) {
        self.worlds.get(world).deliveries.fetch_add(count, Ordering::Relaxed);
    }

    /// The store of this world saw the time of day jump.
    pub fn clock_jumped(&self, world: World) {
        self.worlds.get(world).clock_jumps.fetch_add(1, Ordering::Relaxed);
    }

    pub fn refused(&self, kind: RefusalKind) {
        self.refusals.get_or_create(&CodeLabel { code: kind.numbers().1 }).inc();
    }

    pub fn address_refused(&self, limit: AddressLimit) {
        let limit = match limit {
            AddressLimit::Rate => "rate",
            AddressLimit::Connections => "connections",
        };
        self.addresses_refused.get_or_create(&AddressLabel { limit }).inc();
    }

    pub fn people(&self, world: World) -> Gauge {
        self.people.get_or_create(&PeopleLabel { world: WorldValue(world) }).clone()
    }

    pub(crate) fn tls_reloaded(&self, took: bool) {
        let result = if took { "ok" } else { "refused" };
        self.tls_reloads.get_or_create(&ResultLabel { result }).inc();
    }

    pub(crate) fn tls_certificate_expires(&self, unix_s: u64) {
        self.tls_certificate_expires.store(unix_s, Ordering::Relaxed);
    }

    /// The text exposition format. `wal_bytes`: size of each world's write-ahead log.
    pub fn encode(&self, wal_bytes: &PerWorld<u64>) -> String {
        use std::fmt::Write as _;
        let mut text = String::with_capacity(8192);
        for (name, help, value) in [
            ("commits", "Transactions committed", (|c| &c.commits) as fn(&WorldCounters) -> &AtomicU64),
            ("rollbacks", "Groups that were rolled back or whose outcome is unknown", |c| &c.rollbacks),
            ("messages", "Messages stored", |c| &c.messages),
            ("deliveries", "new_msg handed to outboxes", |c| &c.deliveries),
            ("clock_jumps", "Jumps of the time of day: nothing is deleted for an hour", |c| &c.clock_jumps),
        ] {
            let _ = writeln!(text, "# HELP dna_{name} {help}.\n# TYPE dna_{name} counter");
            for world in World::ALL {
                let count = value(self.worlds.get(world)).load(Ordering::Relaxed);
                let _ = writeln!(text, "dna_{name}_total{{world=\"{}\"}} {count}", world.name());
            }
        }
        let _ =
            writeln!(text, "# HELP dna_wal_bytes Size of the write-ahead log.\n# TYPE dna_wal_bytes gauge");
        for world in World::ALL {
            let _ = writeln!(text, "dna_wal_bytes{{world=\"{}\"}} {}", world.name(), wal_bytes.get(world));
        }
        let expires = self.tls_certificate_expires.load(Ordering::Relaxed);
        if expires > 0 {
            let _ = writeln!(
                text,
                "# HELP dna_tls_certificate_expires_seconds When the TLS certificate in force expires, Unix time.\n\
                 # TYPE dna_tls_certificate_expires_seconds gauge\ndna_tls_certificate_expires_seconds {expires}"
            );
        }
        self.encode_server(&mut text);
        if prometheus_client::encoding::text::encode(&mut text, &self.registry).is_err() {
            text.push_str("# EOF\n");
        }
        text
    }

    /// Sessions open now.
    pub fn connected(&self) -> u64 {
        self.sum(|stats| &stats.sessions)
    }

    fn sum(&self, field: impl Fn(&Stats) -> &AtomicU64) -> u64 {
        self.servers.iter().map(|stats| field(stats).load(Ordering::Relaxed)).sum()
    }

    fn encode_server(&self, text: &mut String) {
        use std::fmt::Write as _;
        let connected = self.connected();
        let _ = writeln!(
            text,
            "# HELP dna_connected Open sessions.\n# TYPE dna_connected gauge\ndna_connected {connected}"
        );
        let counters: [(&str, &str, ServerCounter); 14] = [
            ("accepted", "TCP connections accepted", |stats| &stats.accepted),
            ("tls_failed", "TLS handshakes that failed", |stats| &stats.tls_failed),
            ("sessions_opened", "Sessions opened", |stats| &stats.opened),
            ("handshakes_refused", "Socket.IO requests answered with an error", |stats| &stats.refused),
            ("sessions_upgraded", "Sessions changed from polling to a WebSocket", |stats| &stats.upgraded),
            ("requests_handed_over", "Polls and posts handed to another worker", |stats| &stats.handed_over),
            ("messages_in", "Engine.IO messages received", |stats| &stats.messages_in),
            ("bytes_in", "Bytes received on sessions", |stats| &stats.bytes_in),
            ("frames_out", "Frames written", |stats| &stats.frames_out),
            ("bytes_out", "Bytes written", |stats| &stats.bytes_out),
            ("writes", "Writes to sockets", |stats| &stats.writes),
            ("writes_batched", "Writes handed to the kernel together with others", |stats| {
                &stats.writes_batched
            }),
            ("write_wouldblock", "Writes that found the socket full", |stats| &stats.write_wouldblock),
            ("frames_dropped", "Frames dropped with a closed connection's outbox", |stats| {
                &stats.frames_dropped
            }),
        ];
        for (name, help, field) in counters {
            let value = self.sum(field);
            let _ = writeln!(
                text,
                "# HELP dna_{name} {help}.\n# TYPE dna_{name} counter\ndna_{name}_total {value}"
            );
        }
        let servers = &self.servers;
        let closed = servers.iter().flat_map(|stats| stats.closed_by_reason());
        encode_by(text, "closed", "Sessions closed by reason", "reason", closed);
        let faults = servers.iter().flat_map(|stats| stats.http_faults());
        encode_by(text, "http_faults", "HTTP connections and requests ended for a fault", "fault", faults);
        self.encode_histogram(text, "stage_write", "One connection's write call", |stats| &stats.write);
        self.encode_histogram(text, "stage_outbox", "From an outbox to the end of the write", |stats| {
            &stats.queue
        });
    }

    fn encode_histogram(
        &self,
        text: &mut String,
        name: &str,
        help: &str,
        field: impl Fn(&Stats) -> &socketio_server::stats::Histogram,
    ) {
        use std::fmt::Write as _;
        let _ = writeln!(text, "# HELP dna_{name}_seconds {help}.\n# TYPE dna_{name}_seconds histogram");
        let mut buckets = std::collections::BTreeMap::<u64, u64>::new();
        let (mut sum_us, mut total) = (0, 0);
        for histogram in self.servers.iter().map(|stats| field(stats)) {
            sum_us += histogram.sum_us();
            for (upper_us, count) in histogram.buckets() {
                *buckets.entry(upper_us).or_default() += count;
                total += count;
            }
        }
        let mut below = 0;
        for (upper_us, count) in buckets {
            below += count;
            let upper = upper_us as f64 / 1e6;
            let _ = writeln!(text, "dna_{name}_seconds_bucket{{le=\"{upper}\"}} {below}");
        }
        let _ = writeln!(text, "dna_{name}_seconds_bucket{{le=\"+Inf\"}} {total}");
        let _ = writeln!(text, "dna_{name}_seconds_sum {}", sum_us as f64 / 1e6);
        let _ = writeln!(text, "dna_{name}_seconds_count {total}");
    }
}

/// A counter with one label, its values added up.
fn encode_by(
    text: &mut String,
    name: &str,
    help: &str,
    label: &str,
    counts: impl Iterator<Item = (&'static str, u64)>,
) {
    use std::fmt::Write as _;
    let _ = writeln!(text, "# HELP dna_{name} {help}.\n# TYPE dna_{name} counter");
    let mut sums = std::collections::BTreeMap::<&str, u64>::new();
    for (value, count) in counts {
        *sums.entry(value).or_default() += count;
    }
    for (value, count) in sums {
        let _ = writeln!(text, "dna_{name}_total{{{label}=\"{value}\"}} {count}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_messages_and_deliveries_are_counted_by_world() {
        let metrics = Metrics::new(vec![Arc::default()]);
        metrics.committed(World::Test, 3);
        metrics.committed(World::Test, 1);
        metrics.rolled_back(World::Live);
        metrics.delivered(World::Test, 90);
        let text = metrics.encode(&PerWorld { live: 0, test: 4096 });
        for line in [
            "dna_commits_total{world=\"test\"} 2",
            "dna_commits_total{world=\"live\"} 0",
            "dna_rollbacks_total{world=\"live\"} 1",
            "dna_rollbacks_total{world=\"test\"} 0",
            "dna_messages_total{world=\"test\"} 4",
            "dna_deliveries_total{world=\"test\"} 90",
            "dna_wal_bytes{world=\"test\"} 4096",
            "dna_connected 0",
        ] {
            assert!(text.lines().any(|have| have == line), "no {line} in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
