//! `drumfire limit`: the most the target holds. Steps up until a condition breaks, halves the gap between what held and
//! what did not, and confirms the answer with a longer run.
//!
//! Each step is a whole run of the script with its phases replaced. A step in which the tester itself could not keep up
//! says nothing about the target and is told apart.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use crate::compare::text::wrapped;
use crate::ensure::{Expression, quote};
use crate::metric::Metric;
use crate::outcome::Outcome;
use crate::report::units::{duration, figure, rate, thousands};
use crate::script::LoadOptions;
use crate::script::model::Script;

/// Unless a condition speaks of errors: this many of them for a hundred users are no service.
const ERRORS: &str = "errors.share <= 1%";
/// And of a script with requests, unless one speaks of status codes: a refusing answer comes fast, and is no error to
/// Artillery.
const REFUSALS: &str = "http.5xx.share <= 1%";
/// A step is repeated when the tester stumbled, for it may have been chance, and so is the first that failed: twice the load
/// of the step before meets a server that has not warmed up to it.
const TRIES: usize = 2;
/// From one step to the next while everything holds.
const GROWTH: f64 = 2.0;
/// The confirming run is so much longer than a step.
const CONFIRMING: u32 = 2;
/// So often in a row: near its edge a server holds by luck.
const CONFIRMATIONS: usize = 2;
/// Confirming runs at most, those at rates lowered on the way among them.
const MOST_CONFIRMATIONS: usize = 16;
/// Between what was confirmed and what failed for long are at most so many times the precision asked for.
const CONFIRMED_WITHIN: f64 = 3.0;
const MOST_STEPS: usize = 60;
/// What failed is near what held: a run at that rate refutes the target, whatever lies between.
const NEAR: f64 = 1.3;
/// Users that stand at once are brought up in so many a second.
const USERS_A_SECOND: f64 = 500.0;

mod settle;
mod stretch;

pub use settle::{Settled, Settler};

/// What is driven up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum What {
    /// Users a second that arrive, whether or not earlier ones have ended.
    Rate,
    /// Users at once, each replaced when it ends. Judged from when all of them are there.
    Users,
}

#[derive(Debug, Clone)]
pub struct Options {
    pub what: What,
    pub until: Vec<Condition>,
    pub from: f64,
    /// Nothing higher is tried.
    pub to: Option<f64>,
    pub step: Duration,
    /// How far apart what held and what did not may lie at the end, per cent.
    pub precision: f64,
    /// The script makes requests.
    pub http: bool,
}

/// An expression that has to hold, e.g. `delivery.p99 < 100ms`.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    pub text: String,
    expression: Expression,
    metrics: Vec<Metric>,
}

impl Condition {
    /// # Errors
    /// In words, when it cannot be read, names a figure nobody measures, or holds one against another's unit.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expression = Expression::parse(text)?;
        if let Some(why) = expression.mismatch() {
            return Err(why);
        }
        let mut metrics: Vec<Metric> = Vec::new();
        let mut unknown = None;
        expression.names(&mut |name| match Metric::named(name) {
            Ok(metric) if !metrics.contains(&metric) => metrics.push(metric),
            Ok(_) => {}
            Err(error) => unknown = Some(error.to_string()),
        });
        match unknown {
            Some(why) => Err(format!("{why}; names stand in docs/metrics.md")),
            None if metrics.is_empty() => {
                Err(format!("{:?} asks for no figure, e.g. 'delivery.p99 < 100ms'", quote(text)))
            }
            None => Ok(Self { text: text.to_owned(), expression, metrics }),
        }
    }
}

/// What a step came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", content = "why", rename_all = "lowercase")]
pub enum Verdict {
    Held,
    /// The conditions that did not hold, with what was seen.
    Failed(String),
    /// The tester did not keep up, so the target was not judged.
    Tester(String),
    /// A signal ended it.
    Interrupted(String),
}

#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// Users a second or at once, as asked.
    pub load: f64,
    pub seconds: f64,
    #[serde(flatten)]
    pub verdict: Verdict,
    pub requests_per_second: f64,
    /// Most at once.
    pub concurrent_users: u64,
    /// What the conditions ask for; `null` where nothing was measured.
    pub figures: Vec<(String, Option<f64>)>,
    /// The longer run of the answer.
    pub confirming: bool,
}

/// What the search came to.
#[derive(Debug, Clone)]
pub struct Search {
    options: Options,
    pub steps: Vec<Step>,
    /// The highest that held, confirmed if any was, and the lowest above it that did not.
    pub held: Option<Step>,
    pub beyond: Option<Step>,
    pub confirmed: bool,
    pub interrupted: Option<String>,
}

impl Options {
    /// The phases of a step, as the script would write them.
    pub fn phases(&self, load: f64, length: Duration) -> Value {
        let seconds = length.as_secs_f64();
        match self.what {
            What::Rate => json!([{"name": "step", "duration": seconds, "arrivalRate": load}]),
            What::Users => {
                let ramp = (load / USERS_A_SECOND).ceil().max(1.0) as u64;
                let load = load as u64;
                json!([
                    {"name": "up", "duration": ramp, "concurrency": 1, "rampTo": load},
                    {"name": "step", "duration": seconds, "concurrency": load}
                ])
            }
        }
    }

    /// The script with these phases, whatever else the command line changes in it.
    ///
    /// # Errors
    /// When `--overrides` is no JSON object.
    pub fn load_options(
        &self,
        base: &LoadOptions,
        load: f64,
        length: Duration,
    ) -> Result<LoadOptions, String> {
        let mut over = match &base.overrides {
            None => json!({}),
            Some(text) => {
                serde_json::from_str(text).map_err(|error| format!("--overrides is no JSON: {error}"))?
            }
        };
        if !over.is_object() || over.get("config").is_some_and(|config| !config.is_object()) {
            return Err("--overrides takes a JSON object, and `config` in it another".to_owned());
        }
        over["config"]["phases"] = self.phases(load, length);
        Ok(LoadOptions { overrides: Some(over.to_string()), ..base.clone() })
    }

    /// Can the script answer what is asked?
    ///
    /// # Errors
    /// In words, when a figure of a condition is never measured by it.
    pub fn check(&self, script: &Script) -> Result<(), String> {
        for metric in self.until.iter().flat_map(|condition| &condition.metrics) {
            if metric.name.trim_start_matches("drumfire.").starts_with("delivery")
                && script.config.delivery.is_none()
            {
                return Err(format!(
                    "{}: this script measures no delivery: give it `config.delivery`",
                    metric.name
                ));
            }
        }
        if self.to.is_some_and(|to| to < self.from) {
            return Err("--to is below --from".to_owned());
        }
        Ok(())
    }

    /// The conditions as they are judged: with one on errors, unless the user's speak of them.
    fn conditions(&self) -> Vec<Condition> {
        let mut all = self.until.clone();
        let speaks = |of: &[&str]| {
            let mut named = self.until.iter().flat_map(|condition| &condition.metrics);
            named.any(|metric| of.iter().any(|of| metric.name.starts_with(of)))
        };
        let added = [
            (!speaks(&["errors", "completed.share"])).then_some(ERRORS),
            (self.http && !speaks(&["http.5xx", "http.codes."])).then_some(REFUSALS),
        ];
        all.extend(added.into_iter().flatten().map(|text| Condition::parse(text).expect("is one")));
        all
    }

    /// Users at once are whole; so are rates above ten a second.
    fn rounded(&self, load: f64) -> f64 {
        if self.what == What::Users || load >= 10.0 {
            load.round().max(1.0)
        } else {
            (load * 10.0).round().max(1.0) / 10.0
        }
    }

    fn unit(&self) -> &'static str {
        match self.what {
            What::Rate => " users/s",
            What::Users => " users at once",
        }
    }
}

/// Makes the run of a step, or names the signal that came before it.
pub type Runner<'r> = dyn FnMut(f64, Duration) -> anyhow::Result<Result<Outcome, &'static str>> + 'r;

/// Searches. `run` makes one step, `tell` is called with each when it is over.
///
/// # Errors
/// When a run cannot begin.
pub fn search(
    options: &Options,
    run: &mut Runner<'_>,
    tell: &mut dyn FnMut(&Options, &Step, &Outcome),
) -> anyhow::Result<Search> {
    let mut search = Search {
        options: options.clone(),
        steps: Vec::new(),
        held: None,
        beyond: None,
        confirmed: false,
        interrupted: None,
    };
    let conditions = options.conditions();
    let mut attempt = |search: &mut Search, load: f64, confirming: bool| -> anyhow::Result<Option<Step>> {
        let length = if confirming { options.step * CONFIRMING } else { options.step };
        let mut tries = 0;
        loop {
            let outcome = match run(load, length)? {
                Ok(outcome) => outcome,
                Err(signal) => {
                    search.interrupted = Some(signal.to_owned());
                    return Ok(None);
                }
            };
            let step = judge(&conditions, load, length, &outcome, confirming);
            tell(options, &step, &outcome);
            search.steps.push(step.clone());
            tries += 1;
            if let Verdict::Interrupted(signal) = &step.verdict {
                search.interrupted = Some(signal.clone());
            }
            let again = match step.verdict {
                Verdict::Tester(_) => true,
                Verdict::Failed(_) => search.held.is_some() && search.beyond.is_none(),
                Verdict::Held | Verdict::Interrupted(_) => false,
            };
            if !again || tries >= TRIES {
                return Ok(Some(step));
            }
        }
    };

    let highest = options.to.unwrap_or(f64::INFINITY);
    let mut load = options.rounded(options.from.min(highest));
    let close = |low: f64, high: f64| high / low - 1.0 <= options.precision / 100.0;
    while search.steps.len() < MOST_STEPS && search.interrupted.is_none() {
        let Some(step) = attempt(&mut search, load, false)? else { break };
        match step.verdict {
            Verdict::Held => search.held = Some(step),
            Verdict::Failed(_) | Verdict::Tester(_) => search.beyond = Some(step),
            Verdict::Interrupted(_) => break,
        }
        let (low, high) =
            (search.held.as_ref().map(|step| step.load), search.beyond.as_ref().map(|step| step.load));
        let next = match (low, high) {
            (Some(low), None) if low >= highest => break,
            (Some(low), None) => (low * GROWTH).min(highest),
            (None, Some(high)) if high <= options.rounded(0.0) => break,
            (None, Some(high)) => high / GROWTH,
            // The middle as a ratio: a tenth more is a tenth more, wherever it stands.
            (Some(low), Some(high)) if close(low, high) => break,
            (Some(low), Some(high)) => (low * high).sqrt(),
            (None, None) => break,
        };
        let next = options.rounded(next);
        if Some(next) == low || Some(next) == high {
            break;
        }
        load = next;
    }
    // Held once may have been luck; the answer has to hold again, for longer and each time.
    let mut candidate = search.held.as_ref().map(|step| step.load);
    let mut confirmed: Option<Step> = None;
    let mut failed_at: Option<f64> = None;
    let mut times = 0;
    let mut lowering = options.precision / 100.0;
    let between = |low: f64, high: f64| {
        let middle = options.rounded((low * high).sqrt());
        (high / low - 1.0 > CONFIRMED_WITHIN * options.precision / 100.0 && middle > low && middle < high)
            .then_some(middle)
    };
    for _ in 0..MOST_CONFIRMATIONS {
        let Some(load) = candidate.filter(|_| search.interrupted.is_none()) else { break };
        let Some(step) = attempt(&mut search, load, true)? else { break };
        match step.verdict {
            Verdict::Held => {
                times += 1;
                if times == CONFIRMATIONS {
                    times = 0;
                    candidate = failed_at.and_then(|high| between(load, high));
                    confirmed = Some(step.clone());
                }
                search.held = Some(step);
            }
            Verdict::Failed(_) | Verdict::Tester(_) => {
                times = 0;
                failed_at = Some(load);
                search.beyond = Some(step);
                if let Some(step) = &confirmed {
                    candidate = between(step.load, load);
                    continue;
                }
                let below =
                    search.steps.iter().filter(|other| other.verdict == Verdict::Held && other.load < load);
                // What is told of it, should the search be ended now, was measured at that load.
                search.held = below.max_by(|a, b| a.load.total_cmp(&b.load)).cloned();
                let lower = options.rounded(load / (1.0 + lowering));
                // A server whose queue falls over now and then is not crept up on.
                lowering *= 2.0;
                let next = search.held.as_ref().map_or(lower, |below| below.load.max(lower));
                candidate = (next < load).then_some(next);
            }
            Verdict::Interrupted(_) => break,
        }
    }
    search.confirmed = confirmed.is_some();
    if search.confirmed || search.interrupted.is_none() {
        // Lowered again and again, and never held for long: nothing is claimed.
        search.held = confirmed;
    }
    search.settle_beyond();
    Ok(search)
}

/// Whether every user was refused a connection: there is nothing to find the limit of.
pub fn nobody_listens(outcome: &Outcome) -> bool {
    let count = |name: &str| outcome.total.counters.get(name).copied().unwrap_or(0);
    let created = count("vusers.created");
    created > 0 && count("vusers.completed") == 0 && count("errors.ECONNREFUSED") >= created
}

fn judge(conditions: &[Condition], load: f64, length: Duration, outcome: &Outcome, confirming: bool) -> Step {
    let stretch = stretch::Stretch::of(outcome);
    let totals = stretch.totals();
    let mut broken = Vec::new();
    for condition in conditions {
        // What was added is asked of what there was.
        if condition.text == REFUSALS && condition.metrics.iter().all(|metric| metric.of(&totals).is_none()) {
            continue;
        }
        let (observed, held) = condition.expression.judge(&totals);
        if !held {
            broken.push(format!("{observed} (asked: {})", condition.text));
        }
    }
    let rules: Vec<String> = outcome.validity.broken().map(ToString::to_string).collect();
    let verdict = if let Some(signal) = outcome.interrupted {
        Verdict::Interrupted(signal.to_owned())
    } else if !outcome.validity.valid {
        Verdict::Tester(rules.join("; "))
    } else if broken.is_empty() {
        Verdict::Held
    } else {
        Verdict::Failed(broken.join("; "))
    };
    let requests = ["http.requests", "socketio.emit", "websocket.messages_sent"]
        .iter()
        .filter_map(|name| totals.total.counters.get(*name))
        .sum::<u64>();
    let metrics = conditions.iter().flat_map(|condition| &condition.metrics);
    Step {
        load,
        seconds: length.as_secs_f64(),
        verdict,
        requests_per_second: requests as f64 / stretch.seconds.max(1.0),
        concurrent_users: outcome.total.concurrent_users,
        figures: metrics.map(|metric| (metric.name.clone(), metric.of(&totals))).collect(),
        confirming,
    }
}

// -------------------------------------------------------------------------------------------------------------- telling

impl Step {
    fn figures_text(&self) -> String {
        let text = |(name, value): &(String, Option<f64>)| match (Metric::named(name), value) {
            (Ok(metric), Some(value)) => format!("{name} {}", metric.text(*value)),
            _ => format!("{name} not measured"),
        };
        self.figures.iter().map(text).collect::<Vec<_>>().join(", ")
    }
}

/// What stands above the steps.
pub fn head(options: &Options) -> String {
    let what = match options.what {
        What::Rate => "users a second",
        What::Users => "users at once",
    };
    let conditions: Vec<String> = options.conditions().into_iter().map(|condition| condition.text).collect();
    let mut text = wrapped(&format!("The most {what} with {}", conditions.join(" and ")), "  ");
    let names: Vec<String> = options
        .conditions()
        .iter()
        .flat_map(|condition| &condition.metrics)
        .map(|metric| format!("{:>width$}", metric.name, width = metric.name.len().max(9)))
        .collect();
    let asked = if options.what == What::Rate { "users/s" } else { "at once" };
    let _ = writeln!(
        text,
        "\n{asked:>9} {:>11} {:>9}  {}  verdict",
        "requests/s",
        "most users",
        names.join("  ")
    );
    text
}

/// A step as a row.
pub fn row(step: &Step) -> String {
    let figures: Vec<String> = step
        .figures
        .iter()
        .map(|(name, value)| {
            let text = match (Metric::named(name), value) {
                (Ok(metric), Some(value)) => metric.text(*value),
                _ => "–".to_owned(),
            };
            format!("{text:>width$}", width = name.len().max(9))
        })
        .collect();
    let verdict = match &step.verdict {
        Verdict::Held if step.confirming => format!("held for {}", duration(step.seconds)),
        Verdict::Held => "held".to_owned(),
        Verdict::Failed(_) => "failed".to_owned(),
        Verdict::Tester(_) => "tester's limit".to_owned(),
        Verdict::Interrupted(signal) => format!("ended by {signal}"),
    };
    format!(
        "{:>9} {:>11} {:>10}  {}  {verdict}\n",
        whole(step.load),
        rate(step.requests_per_second),
        thousands(step.concurrent_users),
        figures.join("  ")
    )
}

impl Search {
    /// What failed nearest above what held. Where the tester stumbled in between, a target that failed soon after has been
    /// found all the same.
    fn settle_beyond(&mut self) {
        let low = self.held.as_ref().map_or(0.0, |held| held.load);
        let above = || self.steps.iter().filter(|step| step.load > low);
        let has_failed =
            |load: f64| above().any(|step| step.load == load && matches!(step.verdict, Verdict::Failed(_)));
        let least = |a: &&Step, b: &&Step| a.load.total_cmp(&b.load);
        let failed = above().filter(|step| matches!(step.verdict, Verdict::Failed(_))).min_by(least).cloned();
        // A step that was tried again and failed is no longer the tester's.
        let tester =
            above().filter(|step| matches!(step.verdict, Verdict::Tester(_)) && !has_failed(step.load));
        let tester = tester.min_by(least).cloned();
        self.beyond = match (failed, tester) {
            (Some(failed), Some(tester)) if failed.load > low * NEAR && tester.load < failed.load => {
                Some(tester)
            }
            (Some(failed), _) => Some(failed),
            (None, tester) => tester,
        };
    }

    /// 0 found; 1 nothing held; 3 the tester gave out first; 130, 143 a signal.
    pub fn exit_code(&self) -> u8 {
        let tester = matches!(&self.beyond, Some(Step { verdict: Verdict::Tester(_), .. }));
        crate::exit::code(&crate::exit::Findings {
            interrupted: self.interrupted.as_deref().map(crate::exit::Signal::named),
            invalid: tester,
            claim: true,
            ensure_failed: self.held.is_none(),
            ..crate::exit::Findings::default()
        })
    }

    /// The answer in words.
    pub fn answer(&self) -> String {
        let unit = self.options.unit();
        let mut text = String::new();
        match &self.held {
            Some(held) => {
                let what = match self.interrupted {
                    Some(_) => "Until the interruption held",
                    None => "Held",
                };
                let _ = write!(
                    text,
                    "{what}: {}{unit}, {} requests/s, {} users at once at most; {}",
                    whole(held.load),
                    rate(held.requests_per_second),
                    thousands(held.concurrent_users),
                    held.figures_text()
                );
                if self.confirmed {
                    let _ = write!(text, "; confirmed by {CONFIRMATIONS} runs of {}", duration(held.seconds));
                }
                text.push('.');
            }
            None if self.interrupted.is_some() => text.push_str("Interrupted before anything held."),
            None => {
                let lowest = |confirming: bool| {
                    let steps = self.steps.iter().filter(|step| step.confirming == confirming);
                    steps.map(|step| step.load).min_by(f64::total_cmp)
                };
                let _ = match lowest(true) {
                    Some(load) => write!(text, "Nothing held for long, not even {}{unit}.", whole(load)),
                    None => {
                        write!(text, "Nothing held, not even {}{unit}.", whole(lowest(false).unwrap_or(0.0)))
                    }
                };
            }
        }
        match &self.beyond {
            Some(Step { verdict: Verdict::Failed(why), load, .. }) => {
                let _ = write!(text, "\nFailed: {}{unit}: {why}.", whole(*load));
            }
            Some(Step { verdict: Verdict::Tester(why), load, .. }) => {
                let _ = write!(
                    text,
                    "\nThe tester was the limit at {}{unit}: {why}. The target may hold more: give the tester more \
                     cores or another machine.",
                    whole(*load)
                );
            }
            _ if self.held.is_some() && self.interrupted.is_none() => {
                text.push_str("\nNothing higher was asked for: raise --to to find where it ends.");
            }
            _ => {}
        }
        text.lines().map(|line| wrapped(line, "  ")).collect()
    }

    /// All steps and the answer, for `-o`.
    pub fn to_json(&self, script: &str, command_line: &str) -> String {
        let conditions: Vec<String> =
            self.options.conditions().into_iter().map(|condition| condition.text).collect();
        let value = json!({
            "drumfire_limit": {
                "format": 1,
                "script": script,
                "command_line": command_line,
                "what": match self.options.what { What::Rate => "rate", What::Users => "users" },
                "until": conditions,
                "held": self.held,
                "beyond": self.beyond,
                "confirmed": self.confirmed,
                "interrupted": self.interrupted,
                "steps": self.steps,
            }
        });
        format!("{value:#}\n")
    }
}

/// Whole numbers as such.
fn whole(load: f64) -> String {
    if load.fract() == 0.0 { thousands(load as u64) } else { figure(load) }
}

/// The file of a step's whole result.
pub fn step_file(folder: &std::path::Path, number: usize, load: f64) -> PathBuf {
    folder.join(format!("step-{number:02}-{load}.json"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::outcome::{Meta, Rule, Validity, Window, names};

    fn options(until: &[&str]) -> Options {
        Options {
            what: What::Rate,
            until: until.iter().map(|text| Condition::parse(text).unwrap()).collect(),
            from: 10.0,
            to: None,
            step: Duration::from_secs(5),
            precision: 5.0,
            http: false,
        }
    }

    /// A target that answers in 5 ms up to `capacity` and then in seconds; a tester that keeps up to `tester`.
    fn outcome(load: f64, capacity: f64, tester: f64) -> Outcome {
        let mut times = hdrhistogram::Histogram::new(3).unwrap();
        times.record_n(if load <= capacity { 5_000 } else { 2_000_000 }, 100).unwrap();
        let total = Window {
            start_s: 0.0,
            length_s: 5.0,
            counters: BTreeMap::from([("vusers.created".to_owned(), 100), ("http.requests".to_owned(), 200)]),
            histograms: BTreeMap::from([(names::RESPONSE_FROM_DUE.to_owned(), times)]),
            concurrent_users: 7,
            connections: 7,
        };
        let valid = load <= tester;
        let rule = Rule {
            what: "start lateness p99".into(),
            limit: "50 ms".into(),
            measured: "812 ms".into(),
            held: valid,
        };
        Outcome {
            meta: Meta {
                run_id: String::new(),
                tool_version: String::new(),
                script: String::new(),
                script_sha256: String::new(),
                target: String::new(),
                command_line: String::new(),
                seed: 1,
                host: String::new(),
                workers: 1,
                engine_revision: None,
                started_at_ms: 0,
                duration_s: 5.0,
                phases: Vec::new(),
                listeners: 0,
                unconfirmed_emits: 0,
                confirmed_emits: 0,
            },
            seconds: Vec::new(),
            total,
            errors: Vec::new(),
            server_events: BTreeMap::new(),
            scenario_counts: BTreeMap::new(),
            delivery: None,
            target: None,
            stages: Vec::new(),
            monitored: Vec::new(),
            tester: Vec::new(),
            validity: Validity { valid, rules: vec![rule] },
            checks: Vec::new(),
            ended_after_s: None,
            interrupted: None,
        }
    }

    fn found(options: &Options, run: &mut Runner<'_>) -> Search {
        search(options, run, &mut |_, _, _| {}).unwrap()
    }

    const UNTIL: &[&str] = &["response_from_due.p99 < 100ms"];

    #[test]
    fn the_limit_is_found_within_the_precision_wherever_it_lies() {
        for capacity in [0.3, 1.0, 7.0, 10.0, 53.0, 320.0, 9_999.0, 123_456.0] {
            let search =
                found(&options(UNTIL), &mut |load, _| Ok(Ok(outcome(load, capacity, f64::INFINITY))));
            let (held, beyond) = (search.held.clone().unwrap(), search.beyond.clone().unwrap());
            assert!(held.load <= capacity && beyond.load > capacity, "{capacity}: {}", search.answer());
            // One more or less below twenty a second is as fine as it gets.
            assert!(
                beyond.load / held.load <= 1.05 || beyond.load - held.load <= 1.0,
                "{capacity}: {}",
                search.answer()
            );
            assert!(search.confirmed && held.confirming && search.exit_code() == 0);
            assert!(search.steps.len() < 30, "{capacity}: {} steps", search.steps.len());
        }
    }

    #[test]
    fn a_tester_that_gives_out_first_is_told_apart() {
        let search = found(&options(UNTIL), &mut |load, _| Ok(Ok(outcome(load, 1000.0, 100.0))));
        assert_eq!(search.exit_code(), 3);
        assert!(search.held.as_ref().is_some_and(|step| step.load > 90.0 && step.load <= 100.0));
        let answer = search.answer();
        assert!(answer.contains("The tester was the limit at") && answer.contains("812 ms"), "{answer}");
        // Each of its failures was tried twice.
        let stumbled = search.steps.iter().filter(|step| matches!(step.verdict, Verdict::Tester(_)));
        assert_eq!(stumbled.count() % 2, 0);
    }

    #[test]
    fn what_held_briefly_and_then_overtook_the_tester_is_the_testers_limit() {
        let search = found(&options(UNTIL), &mut |load, length| {
            let tester = if length > Duration::from_secs(5) { 90.0 } else { 100.0 };
            Ok(Ok(outcome(load, 1e9, tester)))
        });
        assert_eq!(search.exit_code(), 3);
        assert!(search.answer().contains("The tester was the limit at 9"), "{}", search.answer());
    }

    #[test]
    fn a_tester_that_stumbles_near_the_edge_hides_nothing() {
        let search = found(&options(UNTIL), &mut |load, length| {
            // It cannot keep up for long above 90, but had seen the target fail at 100.
            let tester = if length > Duration::from_secs(5) { 90.0 } else { f64::INFINITY };
            Ok(Ok(outcome(load, 100.0, tester)))
        });
        let (held, beyond) = (search.held.clone().unwrap(), search.beyond.clone().unwrap());
        assert!(held.load <= 90.0 && held.load > 80.0, "{}", search.answer());
        assert!(matches!(beyond.verdict, Verdict::Failed(_)) && beyond.load > 100.0, "{}", search.answer());
        assert_eq!(search.exit_code(), 0);
    }

    #[test]
    fn a_rate_that_held_by_luck_is_lowered_until_it_holds_for_long() {
        let search = found(&options(UNTIL), &mut |load, length| {
            let capacity = if length > Duration::from_secs(5) { 90.0 } else { 100.0 };
            Ok(Ok(outcome(load, capacity, f64::INFINITY)))
        });
        let held = search.held.clone().unwrap();
        assert!(search.confirmed && held.load <= 90.0 && held.load > 80.0, "{}", search.answer());
        assert!(search.beyond.as_ref().is_some_and(|step| step.load > held.load), "{}", search.answer());
    }

    #[test]
    fn a_server_that_warms_up_is_not_judged_by_its_first_moment() {
        let mut coldest = 30.0;
        let search = found(&options(UNTIL), &mut |load, _| {
            let capacity = if load > coldest { 0.0 } else { 100.0 };
            coldest = load.max(coldest);
            Ok(Ok(outcome(load, capacity, f64::INFINITY)))
        });
        let held = search.held.clone().unwrap();
        assert!(search.confirmed && held.load > 80.0 && held.load <= 100.0, "{}", search.answer());
    }

    #[test]
    fn a_server_that_falls_over_far_below_what_it_held_for_a_moment_is_still_confirmed() {
        let search = found(&options(UNTIL), &mut |load, length| {
            let capacity = if length > Duration::from_secs(5) { 60.0 } else { 100.0 };
            Ok(Ok(outcome(load, capacity, f64::INFINITY)))
        });
        let held = search.held.clone().unwrap();
        assert!(search.confirmed && held.load <= 60.0 && held.load > 52.0, "{}", search.answer());
        let search = found(&options(UNTIL), &mut |load, length| {
            let capacity = if length > Duration::from_secs(5) { 0.0 } else { 100.0 };
            Ok(Ok(outcome(load, capacity, f64::INFINITY)))
        });
        assert!(search.answer().starts_with("Nothing held for long, not even "), "{}", search.answer());
    }

    #[test]
    fn bounds_are_kept_and_nothing_may_hold_at_all() {
        let mut bounded = options(UNTIL);
        bounded.to = Some(50.0);
        let search = found(&bounded, &mut |load, _| {
            assert!(load <= 50.0);
            Ok(Ok(outcome(load, 1e9, f64::INFINITY)))
        });
        assert_eq!((search.held.as_ref().map(|step| step.load), search.exit_code()), (Some(50.0), 0));
        assert!(search.answer().contains("raise --to"), "{}", search.answer());
        let search = found(&options(UNTIL), &mut |load, _| Ok(Ok(outcome(load, 0.0, f64::INFINITY))));
        assert_eq!((search.held.is_none(), search.exit_code()), (true, 1));
        assert!(search.answer().starts_with("Nothing held, not even 0.100 users/s"), "{}", search.answer());
    }

    #[test]
    fn an_interruption_leaves_what_is_known() {
        let search = found(&options(UNTIL), &mut |load, _| {
            let mut outcome = outcome(load, 1000.0, f64::INFINITY);
            outcome.interrupted = (load > 30.0).then_some("SIGINT");
            Ok(Ok(outcome))
        });
        assert_eq!(search.exit_code(), 130);
        assert!(
            search.answer().starts_with("Until the interruption held: 20 users/s"),
            "{}",
            search.answer()
        );
        let text = search.to_json("a.yml", "drumfire limit a.yml");
        let file: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(file["drumfire_limit"]["steps"][2]["verdict"], "interrupted");
        assert_eq!(file["drumfire_limit"]["held"]["load"], 20.0);
    }

    #[test]
    fn errors_count_unless_they_are_spoken_of() {
        let mut failing = outcome(10.0, 100.0, 100.0);
        failing.total.counters.insert("errors.ECONNREFUSED".to_owned(), 5);
        let judged = |until: &[&str]| {
            judge(&options(until).conditions(), 10.0, Duration::from_secs(5), &failing, false).verdict
        };
        assert_eq!(
            judged(UNTIL),
            Verdict::Failed("errors.share = 5 % (asked: errors.share <= 1%)".to_owned())
        );
        assert_eq!(judged(&["errors.share < 10%"]), Verdict::Held);
        let mut refusing = failing.clone();
        refusing
            .total
            .counters
            .extend([("http.codes.200".to_owned(), 90), ("http.codes.503".to_owned(), 10)]);
        for (until, run, held) in [
            ("errors < 9", &refusing, false),
            ("http.5xx.share <= 10%", &refusing, true),
            ("http.codes.500 < 1", &refusing, true),
            ("errors < 9", &failing, true),
        ] {
            let options = Options { http: true, ..options(&[until, "errors < 9"]) };
            let step = judge(&options.conditions(), 10.0, Duration::from_secs(5), run, false);
            assert_eq!(step.verdict == Verdict::Held, held, "{until}: {:?}", step.verdict);
        }
        assert!(
            matches!(judged(&["delivery.p99 < 1s", "errors < 9"]), Verdict::Failed(why) if why.contains("no samples"))
        );
        assert!(Condition::parse("delivery.p9x < 3").unwrap_err().contains("did you mean delivery.p9"));
        assert!(Condition::parse("1 < 2").unwrap_err().contains("asks for no figure"));
    }

    #[test]
    fn of_users_at_once_the_step_is_judged_and_not_the_way_up() {
        let mut run = outcome(10.0, 100.0, 100.0);
        let second = |start_s: f64, ms: u64, created, failed| {
            let mut times = hdrhistogram::Histogram::new(2).unwrap();
            times.record_n(ms * 1000, 50).unwrap();
            let counters = [("vusers.created", created), ("errors.ETIMEDOUT", failed), ("http.requests", 50)];
            Window {
                start_s,
                length_s: 1.0,
                counters: counters.map(|(name, count)| (name.to_owned(), count)).into(),
                histograms: BTreeMap::from([(names::HTTP_RESPONSE_TIME.to_owned(), times)]),
                concurrent_users: 90,
                connections: 90,
            }
        };
        let phase = |start_s, duration_s| crate::outcome::PhaseInfo {
            name: String::new(),
            start_s,
            duration_s,
            load: "90 users at once".to_owned(),
            planned: 0,
        };
        run.meta.phases = vec![phase(0.0, 2.0), phase(2.0, 3.0)];
        run.seconds = vec![
            second(0.0, 900, 45, 45),
            second(1.0, 900, 45, 45),
            second(2.0, 20, 5, 0),
            second(3.0, 20, 5, 0),
            second(4.0, 20, 0, 1),
        ];
        let judged = |until: &[&str], run: &Outcome| {
            judge(&options(until).conditions(), 90.0, Duration::from_secs(3), run, false)
        };
        let step =
            judged(&["http.response_time.p99 < 100ms", "errors.share <= 1%", "rate.users < 4/s"], &run);
        assert_eq!((&step.verdict, step.requests_per_second), (&Verdict::Held, 50.0));
        // One error of the ninety that stood there and the ten that came.
        assert_eq!(step.figures[1], ("errors.share".to_owned(), Some(1.0)));
        run.seconds[3] = second(3.0, 400, 5, 0);
        let step = judged(&["http.response_time.p99 < 100ms"], &run);
        assert!(
            matches!(&step.verdict, Verdict::Failed(why) if why.contains("p99 = 40") && why.contains(" ms (")),
            "{step:?}"
        );
    }

    #[test]
    fn phases_are_replaced_and_other_overrides_stay() {
        let base = LoadOptions {
            overrides: Some(r#"{"config": {"timeout": 3, "phases": []}, "x": 1}"#.to_owned()),
            ..LoadOptions::default()
        };
        let read = |what, load| {
            let options = Options { what, ..options(UNTIL) };
            let text = options.load_options(&base, load, Duration::from_secs(5)).unwrap().overrides.unwrap();
            serde_json::from_str::<Value>(&text).unwrap()
        };
        let over = read(What::Rate, 300.0);
        assert_eq!((&over["x"], &over["config"]["timeout"]), (&json!(1), &json!(3)));
        assert_eq!(
            over["config"]["phases"],
            json!([{"name": "step", "duration": 5.0, "arrivalRate": 300.0}])
        );
        assert_eq!(
            read(What::Users, 2000.0)["config"]["phases"],
            json!([
                {"name": "up", "duration": 4, "concurrency": 1, "rampTo": 2000},
                {"name": "step", "duration": 5.0, "concurrency": 2000}
            ])
        );
    }
}
