//! `drumfire compare A B`: is B better or worse than A, by how much, and is that more than noise?
//!
//! A side is one run or several of the same script. Each figure is held against a band of noise (`noise.rs`); what cannot
//! be compared is not (`differences.rs`). [`text`](text::render) and [`html`](html::render) tell the same [`Comparison`].

mod differences;
pub mod html;
mod noise;
mod sides;
pub mod text;

use std::collections::BTreeSet;

use crate::ensure::quote;
use crate::metric::{Better, Metric, Source, Statistic, Unit};
use crate::outcome::names;
use crate::report::Origin;
use crate::report::units::{figure, thousands};

pub use differences::Difference;
pub(crate) use noise::Method;
pub use sides::{Run, Side};

/// What decides, unless `--fail-if` names something else.
pub const KEY: [&str; 7] = [
    "delivery.p50",
    "delivery.p99",
    "delivery.completeness",
    "response_from_due.p99",
    "errors.share",
    SERVER_ERRORS,
    "rate.users",
];
/// Decides when there were any: a target without HTTP has none, and each figure that decides makes the others' bands wider.
const SERVER_ERRORS: &str = "http.5xx.share";
/// Of all key figures together: how often equal runs are called different, at most.
const FALSE_ALARMS: f64 = 0.05;
/// Worse by so much, and CI fails.
const ALLOWED: f64 = 5.0;
/// The same for shares, in percentage points: 5 % of completeness would be a disaster.
const ALLOWED_POINTS: f64 = 0.1;
/// Smaller differences are none, whatever the noise: the histogram of a second knows its values to 1 %.
const LEAST: f64 = 1.0;
const LEAST_POINTS: f64 = 0.001;
/// A wider band says nothing about sameness, per cent of the figure and percentage points.
const WIDEST: f64 = 25.0;
const WIDEST_POINTS: f64 = 1.0;

/// What the command line says.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Rules that replace the key figures.
    pub fail_if: Vec<Rule>,
    /// Per cent a key figure may be worse; `None`: 5.
    pub allow: Option<f64>,
    /// A verdict even over different scripts, phases or listeners.
    pub force: bool,
    pub seed: u64,
    /// Redraws of each run that estimate the noise; `None`: 400.
    pub redraws: Option<usize>,
}

/// `delivery.p99 > 10%`: fails when this figure is worse by more than that.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub metric: Metric,
    pub limit: Limit,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// Per cent of A.
    Relative(f64),
    /// In the figure's own unit; for shares, percentage points.
    Absolute(f64),
}

impl Rule {
    /// # Errors
    /// In words, when it is not `METRIC > NUMBER UNIT` or names an unknown figure.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, limit) = text.split_once('>').ok_or_else(|| {
            format!("{:?} is no rule: write METRIC > LIMIT, e.g. 'delivery.p99 > 10%'", quote(text))
        })?;
        let metric = Metric::named(name.trim()).map_err(|unknown| unknown.to_string())?;
        if metric.better == Better::Neither {
            return Err(format!(
                "{} says how much was asked, so it gets neither better nor worse",
                quote(&metric.name)
            ));
        }
        let limit = limit.trim_start_matches('=').trim();
        let digits = limit.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(limit.len());
        let number = limit[..digits].parse().ok().filter(|number: &f64| number.is_finite());
        let number = number.ok_or_else(|| format!("{:?} is no limit, e.g. 10%", quote(limit)))?;
        let absolute = |factor: f64| Ok(Limit::Absolute(number * factor));
        let limit = match (limit[digits..].trim(), metric.unit) {
            ("pp" | "points", Unit::Percent) => absolute(1.0),
            ("%", _) => Ok(Limit::Relative(number)),
            ("us" | "µs", Unit::Milliseconds) => absolute(0.001),
            ("ms", Unit::Milliseconds) => absolute(1.0),
            ("s", Unit::Milliseconds) => absolute(1000.0),
            ("/s", Unit::PerSecond)
            | ("MB", Unit::Megabytes)
            | ("cores", Unit::Cores)
            | ("", Unit::Count) => absolute(1.0),
            (unit, _) => Err(format!(
                "{:?} is no unit of {}: use %, or its own unit",
                quote(unit),
                quote(&metric.name)
            )),
        }?;
        Ok(Self { metric, limit })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Better,
    Worse,
    /// Neither better nor worse by its nature, and different.
    Different,
    /// Within noise, and the noise is small enough to say so.
    Same,
    CannotTell,
}

/// One figure of both sides.
#[derive(Debug, Clone)]
pub struct Row {
    pub metric: Metric,
    /// One of those that decide.
    pub key: bool,
    pub a: f64,
    pub b: f64,
    /// Half the width of the confidence interval of B - A, in the figure's unit; `None`: no noise is known.
    pub noise: Option<f64>,
    pub verdict: Verdict,
    /// It is worse by more than is allowed.
    pub fails: bool,
}

impl Row {
    pub fn difference(&self) -> f64 {
        self.b - self.a
    }

    /// Per cent of A; for shares in percentage points. `None` when A is zero.
    pub fn change(&self) -> Option<f64> {
        self.scaled(self.difference())
    }

    /// The noise in the same measure.
    pub fn band(&self) -> Option<f64> {
        self.scaled(self.noise?)
    }

    fn scaled(&self, value: f64) -> Option<f64> {
        match self.metric.unit {
            Unit::Percent => Some(value),
            _ if self.a == 0.0 => (value == 0.0).then_some(0.0),
            _ => Some(value / self.a.abs() * 100.0),
        }
    }

    /// `-51 %`, `+0.13 pp`.
    pub(crate) fn change_text(&self) -> String {
        match self.change() {
            // Twentyfold is read at once, +1,931 % is not.
            Some(change) if change >= 900.0 && self.metric.unit != Unit::Percent => {
                format!("×{}", thousands((self.b / self.a).round() as u64))
            }
            Some(change) => format!("{}{}", signed(change), self.measure()),
            None => "from 0".to_owned(),
        }
    }

    /// `±6 %`.
    pub(crate) fn band_text(&self) -> String {
        match (self.noise, self.band()) {
            (None, _) => "–".to_owned(),
            (_, Some(band)) if band >= 999.5 => "± much".to_owned(),
            (_, Some(band)) => format!("±{}{}", short(band), self.measure()),
            (Some(noise), None) => format!("±{}", figure(noise)),
        }
    }

    fn measure(&self) -> &'static str {
        if self.metric.unit == Unit::Percent { " pp" } else { " %" }
    }
}

fn signed(value: f64) -> String {
    let text = short(value);
    if value > 0.0 && text != "0" { format!("+{text}") } else { text }
}

/// Two significant digits below ten, whole numbers above.
fn short(value: f64) -> String {
    let size = value.abs();
    let text = if size >= 9.95 {
        format!("{value:.0}")
    } else if size >= 0.095 {
        format!("{value:.1}")
    } else if size >= 0.0095 {
        format!("{value:.2}")
    } else if size >= 0.0005 {
        format!("{value:.3}")
    } else {
        return "0".to_owned();
    };
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// Everything that is told.
#[derive(Debug)]
pub struct Comparison {
    pub a: Side,
    pub b: Side,
    pub rows: Vec<Row>,
    pub differences: Vec<Difference>,
    /// Runs whose figures are not to be believed, and why.
    pub invalid: Vec<String>,
    /// Figures that exist and are not compared: name and reason.
    pub left_out: Vec<(String, String)>,
    /// How the noise was found.
    pub(crate) method: Method,
    /// Confidence of one figure's interval, per cent.
    pub confidence: f64,
    pub forced: bool,
    /// What each rule of the command line says, or `None` with the default ones.
    pub rules: Option<Vec<Rule>>,
    pub allow: f64,
}

impl Comparison {
    /// # Errors
    /// When a rule names a figure neither side has.
    pub fn new(a: Side, b: Side, options: &Options) -> Result<Self, String> {
        let allow = options.allow.unwrap_or(ALLOWED);
        let keys: Vec<Metric> = if options.fail_if.is_empty() {
            KEY.iter().map(|name| Metric::named(name).expect("is listed")).collect()
        } else {
            options.fail_if.iter().map(|rule| rule.metric.clone()).collect()
        };
        let mut left_out = Vec::new();
        let figures = |metric: &Metric| Some((a.figure(metric)?, b.figure(metric)?));
        let mut compared: Vec<(Metric, bool)> = Vec::new();
        let mut seen = BTreeSet::new();
        let candidates = keys.iter().map(|metric| (metric.clone(), true));
        for (metric, key) in candidates.chain(listed(&a, &b).into_iter().map(|metric| (metric, false))) {
            if !seen.insert(metric.name.clone()) {
                continue;
            }
            let key = key
                && (metric.name != SERVER_ERRORS
                    || !options.fail_if.is_empty()
                    || figures(&metric).is_some_and(|(a, b)| a > 0.0 || b > 0.0));
            if let Some(why) = unlike(&metric, &a, &b) {
                left_out.push((metric.name, why.to_owned()));
            } else if figures(&metric).is_some() {
                compared.push((metric, key));
            } else if key && !options.fail_if.is_empty() {
                let side = if a.figure(&metric).is_none() { &a } else { &b };
                return Err(format!("--fail-if: {} was not measured in {}", metric.name, side.name));
            } else if a.figure(&metric).is_some() != b.figure(&metric).is_some() {
                let has = if a.figure(&metric).is_some() { "A" } else { "B" };
                left_out.push((metric.name, format!("only {has} has it")));
            }
        }
        let key_count = compared.iter().filter(|(_, key)| *key).count().max(1);
        let level = 1.0 - FALSE_ALARMS / key_count as f64;
        let metrics: Vec<Metric> = compared.iter().map(|(metric, _)| metric.clone()).collect();
        let (method, bands) =
            noise::bands(&a, &b, &metrics, level, (options.redraws.unwrap_or(noise::DRAWS), options.seed));
        let rows = compared
            .into_iter()
            .zip(bands)
            .map(|((metric, key), noise)| {
                let (a, b) = figures(&metric).expect("both were found");
                let mut row = Row { metric, key, a, b, noise, verdict: Verdict::CannotTell, fails: false };
                row.judge();
                let rule = options.fail_if.iter().find(|rule| rule.metric == row.metric);
                let limit = rule.map_or(
                    if row.metric.unit == Unit::Percent {
                        Limit::Absolute(allow.min(ALLOWED_POINTS))
                    } else {
                        Limit::Relative(allow)
                    },
                    |rule| rule.limit,
                );
                row.fails = row.key && row.verdict == Verdict::Worse && row.exceeds(limit);
                row
            })
            .collect();
        Ok(Self {
            differences: differences::between(&a, &b),
            invalid: a.invalid("A").into_iter().chain(b.invalid("B")).collect(),
            a,
            b,
            rows,
            left_out,
            method,
            confidence: level * 100.0,
            forced: options.force,
            rules: (!options.fail_if.is_empty()).then(|| options.fail_if.clone()),
            allow,
        })
    }

    /// Why nothing is claimed, if nothing is.
    pub fn refusal(&self) -> Option<String> {
        if let Some(first) = self.invalid.first() {
            return Some(format!("{first}."));
        }
        let grave: Vec<&Difference> =
            self.differences.iter().filter(|difference| difference.grave && !self.forced).collect();
        let names = |known: bool| {
            let names = grave.iter().filter(|one| one.is_known() == known).map(|one| one.what.as_str());
            names.collect::<Vec<_>>().join(", ")
        };
        if grave.iter().any(|one| one.is_known()) {
            return Some(format!(
                "A and B did not do the same ({}); --force compares all the same.",
                names(true)
            ));
        }
        if !grave.is_empty() {
            return Some(format!(
                "whether A and B did the same is not in the files ({}); --force compares all the same.",
                names(false)
            ));
        }
        if !self.rows.iter().any(|row| row.key) {
            return Some("A and B share none of the figures that decide.".to_owned());
        }
        None
    }

    /// 0 no worse, 1 worse than allowed, 3 nothing can be claimed.
    pub fn exit_code(&self) -> u8 {
        crate::exit::code(&crate::exit::Findings {
            invalid: self.refusal().is_some(),
            claim: true,
            ensure_failed: self.rows.iter().any(|row| row.fails),
            ..crate::exit::Findings::default()
        })
    }

    /// What came of it, in one sentence.
    pub fn sentence(&self) -> String {
        if let Some(why) = self.refusal() {
            return format!("No verdict: {why}");
        }
        let of = |verdict| {
            let mut rows: Vec<&Row> =
                self.rows.iter().filter(|row| row.key && row.verdict == verdict).collect();
            // What fails first, then what changed most.
            let size = |row: &Row| row.change().map_or(f64::INFINITY, f64::abs);
            rows.sort_by(|x, y| y.fails.cmp(&x.fails).then(size(y).total_cmp(&size(x))));
            rows
        };
        let (better, worse) = (of(Verdict::Better), of(Verdict::Worse));
        let tell = |rows: &[&Row]| {
            let mut parts: Vec<String> = rows.iter().take(2).map(|row| told(row)).collect();
            if rows.len() > 2 {
                parts.push(format!("and {} more", rows.len() - 2));
            }
            parts.join(", ")
        };
        let word = |rows: &[&Row], times: &'static str, other: &'static str| {
            if rows.iter().all(|row| row.metric.unit == Unit::Milliseconds) { times } else { other }
        };
        let allowed = if !worse.is_empty() && worse.iter().all(|row| !row.fails) { " (allowed)" } else { "" };
        match (&better[..], &worse[..]) {
            ([], []) => {
                let keys: Vec<&Row> = self.rows.iter().filter(|row| row.key).collect();
                let open: Vec<&&Row> = keys.iter().filter(|row| row.verdict == Verdict::CannotTell).collect();
                let same: Vec<&&Row> = keys.iter().filter(|row| row.verdict == Verdict::Same).collect();
                let example = |rows: &[&&Row]| {
                    let row = rows.iter().find(|row| row.metric.name == "delivery.p99").unwrap_or(&rows[0]);
                    told(row)
                };
                let unknown = |rows: &[&&Row]| rows.iter().all(|row| row.noise.is_none());
                if open.is_empty() && unknown(&same) {
                    format!("A and B are the same in every key figure: {}.", example(&same))
                } else if open.is_empty() {
                    format!("A and B are the same within noise: {}.", example(&same))
                } else if same.is_empty() {
                    format!("It cannot be told whether B differs from A: {}.", example(&open))
                } else if unknown(&open) {
                    format!(
                        "It cannot be told whether B differs from A, as no noise is known of {} of {} key figures: {}.",
                        open.len(),
                        keys.len(),
                        example(&open)
                    )
                } else {
                    format!(
                        "No difference was found, but {} of {} key figures are too noisy to call the same: {}.",
                        open.len(),
                        keys.len(),
                        example(&open)
                    )
                }
            }
            (better, []) => {
                format!("B is {}: {}; nothing got worse.", word(better, "faster", "better"), tell(better))
            }
            ([], worse) => {
                format!(
                    "B is {}{allowed}: {}; nothing got better.",
                    word(worse, "slower", "worse"),
                    tell(worse)
                )
            }
            (better, worse) => {
                format!(
                    "B is worse in some things{allowed}: {}; and better in others: {}.",
                    tell(worse),
                    tell(better)
                )
            }
        }
    }
}

impl Comparison {
    /// How the noise was found, and why some figures have none.
    pub(crate) fn method_text(&self) -> String {
        let mut text = self.method.text(self.confidence);
        if matches!(self.method, Method::Seconds(_))
            && self.rows.iter().any(|row| row.key && row.noise.is_none())
        {
            text += &format!(
                " Where it says – no noise is known: fewer than {} seconds measured that. Longer runs help, or several \
                 of each side.",
                noise::LEAST_SECONDS
            );
        }
        text
    }
}

/// `delivery p99 4.10 ms -> 2.00 ms (-51 %, noise ±6 %)`.
fn told(row: &Row) -> String {
    let noise =
        if row.noise.is_some() { format!("noise {}", row.band_text()) } else { "noise unknown".to_owned() };
    format!(
        "{} {} -> {} ({}, {noise})",
        row.metric.name,
        row.metric.text(row.a),
        row.metric.text(row.b),
        row.change_text()
    )
}

impl Row {
    fn judge(&mut self) {
        let difference = self.difference();
        let points = self.metric.unit == Unit::Percent;
        let least = if points { LEAST_POINTS } else { LEAST };
        let negligible = self.change().is_some_and(|change| change.abs() <= least);
        self.verdict = match self.noise {
            None if self.a == self.b => Verdict::Same,
            None => Verdict::CannotTell,
            Some(noise) if difference.abs() > noise && !negligible => match self.metric.better {
                Better::Neither => Verdict::Different,
                Better::Less if difference < 0.0 => Verdict::Better,
                Better::More if difference > 0.0 => Verdict::Better,
                _ => Verdict::Worse,
            },
            Some(_) => {
                let widest = if points { WIDEST_POINTS } else { WIDEST };
                if self.band().is_some_and(|band| band <= widest) {
                    Verdict::Same
                } else {
                    Verdict::CannotTell
                }
            }
        };
    }

    fn exceeds(&self, limit: Limit) -> bool {
        match limit {
            Limit::Absolute(most) => self.difference().abs() > most,
            // From nothing to something is more than any share of it.
            Limit::Relative(most) if self.metric.unit == Unit::Percent => {
                self.a == 0.0 || self.difference().abs() / self.a * 100.0 > most
            }
            Limit::Relative(most) => self.change().is_none_or(|change| change.abs() > most),
        }
    }
}

/// Every figure worth a row, in the order of the tables.
fn listed(a: &Side, b: &Side) -> Vec<Metric> {
    let mut names: Vec<String> = [
        "rate.users",
        "rate.requests",
        "rate.deliveries",
        "completed.share",
        "errors.share",
        "errors",
        SERVER_ERRORS,
        "vusers.skipped",
        "delivery.completeness",
        "delivery.missing",
        "delivery.duplicates",
        "delivery.late",
        "delivery.unexpected",
        "delivery.out_of_order",
    ]
    .map(str::to_owned)
    .into();
    let mut histograms: Vec<String> = [
        "delivery",
        "delivery.from_due",
        "delivery.first",
        "delivery.median",
        "delivery.last",
        "delivery.ack",
        "response_from_due",
        "http.response_time",
        "socketio.response_time",
        "websocket.response_time",
        "connect",
        "connect.dns",
        "connect.tcp",
        "connect.tls",
        "connect.polling",
        "connect.upgrade",
        "connect.handshake",
        "connect.probe",
        "connect.namespace",
        "websocket.connect.total",
        "listener_connect",
        "reconnect",
        "session_length",
    ]
    .map(str::to_owned)
    .into();
    let mut classes: BTreeSet<String> = BTreeSet::new();
    for run in a.runs.iter().chain(&b.runs) {
        let known = run.loaded.run.iter().flat_map(|run| run.histograms.keys());
        classes.extend(
            known
                .filter_map(|name| name.strip_prefix("drumfire."))
                .filter(|name| name.strip_prefix("delivery.class.").is_some_and(|class| !class.is_empty()))
                .map(str::to_owned),
        );
    }
    histograms.splice(1..1, classes);
    for histogram in histograms {
        for statistic in ["p50", "p95", "p99", "p99.9", "max", "mean"] {
            names.push(format!("{histogram}.{statistic}"));
        }
    }
    // Artillery 1 has all engines' answers together and nothing else.
    if a.runs.iter().chain(&b.runs).all(|run| run.loaded.origin == Origin::ArtilleryV1) {
        names.extend(["p50", "p95", "p99", "max"].map(str::to_owned));
    }
    names.extend(
        [
            "target.cpu",
            "target.cpu_per_request",
            "target.cpu_per_delivery",
            "target.memory",
            "start_lateness.p99",
            "tester.cpu",
            "tester.memory",
        ]
        .map(str::to_owned),
    );
    names.iter().map(|name| Metric::named(name).expect("is listed")).collect()
}

/// Why a figure of these files must not be compared.
fn unlike(metric: &Metric, a: &Side, b: &Side) -> Option<&'static str> {
    let runs = || a.runs.iter().chain(&b.runs);
    let foreign = || runs().filter(|run| run.loaded.origin != Origin::Drumfire);
    let mixed = runs().any(|run| run.loaded.origin != a.runs[0].loaded.origin);
    let has = |side: &Side| side.figure(metric).is_some();
    match &metric.source {
        Source::Statistic { histogram, statistic } if *statistic != Statistic::Count => {
            if histogram == names::SOCKETIO_RESPONSE_TIME && foreign().next().is_some() && (has(a) || has(b))
            {
                return Some("Artillery's response times of emits hold those nobody answered");
            }
            if histogram == names::SESSION_LENGTH && mixed && has(a) && has(b) {
                return Some("the programs count a session differently");
            }
            None
        }
        Source::Answers(_) => {
            let unanswered = foreign().any(|run| run.loaded.total.codes.get("0").is_some_and(|n| *n > 0));
            unanswered.then_some("Artillery's latency holds emits nobody answered")
        }
        _ => None,
    }
}
