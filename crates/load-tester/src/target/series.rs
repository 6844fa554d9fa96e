//! The account of what an endpoint says each second: stages of the target's work, and chosen series. Pure.

use rustc_hash::FxHashMap;

use crate::outcome::{Monitored, MonitoredKind, StagePoint, StageUse};
use crate::prometheus::{Exposition, FamilyKind};

/// Of one endpoint.
const MOST_SERIES: usize = 200;
const MOST_STAGES: usize = 32;
/// A point so soon after another is no point of its own: the last answer may follow close on the one before.
const LEAST_GAP_S: f64 = 0.25;
/// Above it neighbours are put together two by two.
const MOST_POINTS: usize = 1200;

/// The order in which a message of `dna` passes them; stages of others follow as they are exposed.
const ORDER: [&str; 6] = ["parse", "commit", "match", "queue", "write", "outbox"];

/// Whether a name is meant by a pattern, in which `*` stands for anything.
pub(crate) fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// `commit` of `dna_stage_commit_seconds`.
fn stage_name(family: &str) -> Option<&str> {
    let name = family.split_once("_stage_")?.1.strip_suffix("_seconds")?;
    (!name.is_empty()).then_some(name)
}

/// A histogram as it stood: all label sets together.
#[derive(Debug, Clone, Default, PartialEq)]
struct Standing {
    count: f64,
    sum_s: f64,
    /// (upper edge, how many at or below it), ascending.
    buckets: Vec<(f64, f64)>,
}

#[derive(Debug)]
struct Stage {
    family: String,
    before: Standing,
    told: StageUse,
}

#[derive(Debug)]
struct Series {
    told: Monitored,
    /// Of a counter, and of a mean: when, and its value or its sum and count.
    before: Option<(f64, (f64, f64))>,
}

/// What one endpoint has said so far.
#[derive(Debug)]
pub(super) struct Account {
    source: String,
    patterns: Vec<String>,
    stages: Vec<Stage>,
    series: Vec<Series>,
    /// By the text of the series.
    known: FxHashMap<String, usize>,
    begun: bool,
    /// More series fit than are kept.
    pub(super) overflowed: bool,
}

impl Account {
    pub(super) fn new(source: &str, patterns: &[String]) -> Self {
        Self {
            source: source.to_owned(),
            patterns: patterns.to_vec(),
            stages: Vec::new(),
            series: Vec::new(),
            known: FxHashMap::default(),
            begun: false,
            overflowed: false,
        }
    }

    pub(super) fn has_stages(&self) -> bool {
        !self.stages.is_empty()
    }

    /// Nothing that was asked for was found.
    pub(super) fn is_empty(&self) -> bool {
        self.series.is_empty() && self.stages.is_empty()
    }

    /// Takes an answer; `at_s` is when it was given, in seconds since the run's start (before it: negative).
    pub(super) fn take(&mut self, all: &Exposition<'_>, at_s: f64) {
        self.take_stages(all, at_s);
        if !self.patterns.is_empty() {
            self.take_series(all, at_s);
        }
        self.begun = true;
    }

    fn take_stages(&mut self, all: &Exposition<'_>, at_s: f64) {
        let mut now: FxHashMap<&str, Standing> = FxHashMap::default();
        let mut order = Vec::new();
        for sample in &all.samples {
            let Some((family, _)) =
                all.family_of(&sample.name).filter(|(_, family)| family.kind == FamilyKind::Histogram)
            else {
                continue;
            };
            if stage_name(family).is_none() || !sample.value.is_finite() {
                continue;
            }
            let standing = now.entry(family).or_insert_with(|| {
                order.push(family);
                Standing::default()
            });
            match sample.name.strip_prefix(family) {
                Some("_count") => standing.count += sample.value,
                Some("_sum") => standing.sum_s += sample.value,
                Some("_bucket") => {
                    let Some(edge) = sample.label("le").and_then(|le| le.parse::<f64>().ok()) else {
                        continue;
                    };
                    match standing.buckets.iter_mut().find(|(known, _)| *known == edge) {
                        Some((_, count)) => *count += sample.value,
                        None => standing.buckets.push((edge, sample.value)),
                    }
                }
                _ => {}
            }
        }
        for family in order {
            let Some(mut standing) = now.remove(family) else { continue };
            standing.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            let index = match self.stages.iter().position(|stage| stage.family == family) {
                Some(index) => index,
                None if self.stages.len() < MOST_STAGES => {
                    let name = stage_name(family).unwrap_or(family);
                    let taken = self.stages.iter().any(|stage| stage.told.name == name);
                    let help = all.families.get(family).map(|family| family.help.clone());
                    let told = StageUse {
                        name: if taken { family } else { name }.to_owned(),
                        help: help.unwrap_or_default(),
                        points: Vec::new(),
                    };
                    // What was counted before we looked is no part of the run.
                    let before = if self.begun { Standing::default() } else { standing.clone() };
                    self.stages.push(Stage { family: family.to_owned(), before, told });
                    self.stages.len() - 1
                }
                None => continue,
            };
            let stage = &mut self.stages[index];
            if self.begun {
                let point = since(&stage.before, &standing, at_s);
                let points = &mut stage.told.points;
                match points.last_mut().filter(|last| at_s - last.at_s < LEAST_GAP_S) {
                    Some(last) => *last = both(&[*last, point]),
                    None => points.push(point),
                }
                if points.len() > MOST_POINTS {
                    *points = points.chunks(2).map(both).collect();
                }
            }
            stage.before = standing;
        }
    }

    fn take_series(&mut self, all: &Exposition<'_>, at_s: f64) {
        // Of distributions, by family and labels: sum and count, in the order they are exposed.
        let mut means: Vec<(String, Option<f64>, Option<f64>)> = Vec::new();
        let mut seen: FxHashMap<String, usize> = FxHashMap::default();
        for sample in all.samples.iter().filter(|sample| sample.value.is_finite()) {
            let part = all.family_of(&sample.name).and_then(|(family, about)| {
                let whole = matches!(about.kind, FamilyKind::Histogram | FamilyKind::Summary);
                sample.name.strip_prefix(family).filter(|part| whole && !part.is_empty())
            });
            if let Some(part @ ("_sum" | "_count")) = part {
                let family = &sample.name[..sample.name.len() - part.len()];
                let series = sample.series().replacen(&*sample.name, family, 1);
                if self.wants(family, &series, None) {
                    let at = *seen.entry(series).or_insert_with_key(|series| {
                        means.push((series.clone(), None, None));
                        means.len() - 1
                    });
                    *(if part == "_sum" { &mut means[at].1 } else { &mut means[at].2 }) = Some(sample.value);
                }
            }
            let name = sample.series();
            if self.wants(&sample.name, &name, part) {
                let counter = all.is_counter(&sample.name);
                let kind = if counter { MonitoredKind::Counter } else { MonitoredKind::Gauge };
                self.take_value(name, kind, at_s, (sample.value, 0.0));
            }
        }
        for (series, sum, count) in means {
            if let (Some(sum), Some(count)) = (sum, count) {
                self.take_value(series, MonitoredKind::Mean, at_s, (sum, count));
            }
        }
    }

    /// Whether a pattern means it; parts of a distribution only when it names the part.
    fn wants(&self, name: &str, series: &str, part: Option<&str>) -> bool {
        self.patterns.iter().any(|pattern| {
            part.is_none_or(|part| pattern.contains(part))
                && fits(pattern, if pattern.contains('{') { series } else { name })
        })
    }

    /// `value`: as exposed, and of a mean sum and count.
    fn take_value(&mut self, name: String, kind: MonitoredKind, at_s: f64, value: (f64, f64)) {
        let index = match self.known.get(&name) {
            Some(&index) => index,
            None if self.series.len() == MOST_SERIES => {
                self.overflowed = true;
                return;
            }
            None => {
                let source = self.source.clone();
                let told = Monitored { name: name.clone(), source, kind, points: Vec::new() };
                self.series.push(Series { told, before: None });
                self.known.insert(name, self.series.len() - 1);
                self.series.len() - 1
            }
        };
        let series = &mut self.series[index];
        let points = &mut series.told.points;
        if kind == MonitoredKind::Gauge {
            if at_s >= 0.0 && points.last().is_none_or(|(then, _)| at_s - then >= LEAST_GAP_S) {
                points.push((at_s, value.0));
            }
        } else {
            if let Some((then, before)) = series.before {
                if at_s - then < LEAST_GAP_S {
                    return;
                }
                // Less than before: it began anew, from nothing.
                let anew = if kind == MonitoredKind::Mean { value.1 < before.1 } else { value.0 < before.0 };
                let before = if anew { (0.0, 0.0) } else { before };
                let grown = value.0 - before.0;
                match kind {
                    MonitoredKind::Mean if value.1 > before.1 => {
                        points.push((at_s, grown / (value.1 - before.1)));
                    }
                    MonitoredKind::Mean => {}
                    _ => points.push((at_s, grown / (at_s - then))),
                }
            }
            series.before = Some((at_s, value));
        }
        if points.len() > MOST_POINTS {
            thin(points);
        }
    }

    /// Stages in the order a message passes them, and series in the order they were exposed.
    pub(super) fn told(&self) -> (Vec<StageUse>, Vec<Monitored>) {
        let mut stages: Vec<StageUse> = self.stages.iter().map(|stage| stage.told.clone()).collect();
        stages
            .sort_by_key(|stage| ORDER.iter().position(|known| *known == stage.name).unwrap_or(ORDER.len()));
        (stages, self.series.iter().map(|series| series.told.clone()).collect())
    }
}

fn since(before: &Standing, now: &Standing, at_s: f64) -> StagePoint {
    // Less than before: the process was restarted.
    let nothing = Standing::default();
    let before = if now.count < before.count { &nothing } else { before };
    let count = now.count - before.count;
    let grown = |edge: f64, below: f64| {
        let then = before.buckets.iter().rfind(|(known, _)| *known <= edge).map_or(0.0, |(_, count)| *count);
        below - then
    };
    let p99_s = (count >= 1.0)
        .then(|| {
            let holds = now.buckets.iter().find(|(edge, below)| grown(*edge, *below) >= count * 0.99);
            let highest = now.buckets.iter().rfind(|(edge, _)| edge.is_finite());
            holds.filter(|(edge, _)| edge.is_finite()).or(highest).map(|(edge, _)| *edge)
        })
        .flatten();
    StagePoint { at_s, count: count.max(0.0) as u64, sum_s: (now.sum_s - before.sum_s).max(0.0), p99_s }
}

/// Every two as one, at the later's time.
fn thin(points: &mut Vec<(f64, f64)>) {
    *points = points
        .chunks(2)
        .map(|pair| {
            (pair[pair.len() - 1].0, pair.iter().map(|point| point.1).sum::<f64>() / pair.len() as f64)
        })
        .collect();
}

/// As one, at the later's time.
fn both(pair: &[StagePoint]) -> StagePoint {
    StagePoint {
        at_s: pair[pair.len() - 1].at_s,
        count: pair.iter().map(|point| point.count).sum(),
        sum_s: pair.iter().map(|point| point.sum_s).sum(),
        p99_s: pair.iter().filter_map(|point| point.p99_s).reduce(f64::max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prometheus::parse;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("up", "up", true),
            ("up", "upper", false),
            ("dna_stage_*", "dna_stage_commit_seconds_sum", true),
            ("*_total", "a_total", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("*", "", true),
            ("ab*ba", "aba", false),
            ("x{code=\"2*\"}", "x{code=\"200\"}", true),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }

    fn stage(count: u64, slow: u64, sum: f64) -> String {
        format!(
            "# HELP dna_stage_commit_seconds Storing.\n# TYPE dna_stage_commit_seconds histogram\n\
             dna_stage_commit_seconds_bucket{{w=\"0\",le=\"0.001\"}} {}\ndna_stage_commit_seconds_bucket{{w=\"0\",le=\"0.1\"}} {count}\n\
             dna_stage_commit_seconds_bucket{{w=\"0\",le=\"+Inf\"}} {count}\n\
             dna_stage_commit_seconds_count{{w=\"0\"}} {count}\ndna_stage_commit_seconds_sum{{w=\"0\"}} {sum}\n\
             # TYPE dna_stage_parse_seconds histogram\ndna_stage_parse_seconds_bucket{{le=\"+Inf\"}} {count}\n\
             dna_stage_parse_seconds_count {count}\ndna_stage_parse_seconds_sum 0\n\
             # TYPE load gauge\nload {slow}\n# TYPE seen counter\nseen_total{{code=\"200\"}} {count}\n",
            count - slow
        )
    }

    #[test]
    fn stages_and_rates_are_what_happened_since_the_scrape_before() {
        let mut account = Account::new("dna", &["load".to_owned(), "seen_*".to_owned()]);
        for (at, text) in [
            (-0.1, stage(1000, 500, 80.0)),
            (1.0, stage(1100, 500, 80.05)),
            (2.0, stage(1200, 550, 85.05)),
            (3.0, stage(1200, 550, 85.05)),
            (5.0, stage(30, 0, 0.015)),
            (5.01, stage(40, 0, 0.02)),
        ] {
            account.take(&parse(&text).unwrap(), at);
        }
        let (stages, series) = account.told();
        assert_eq!(stages.iter().map(|stage| &*stage.name).collect::<Vec<_>>(), ["parse", "commit"]);
        assert_eq!(stages[1].help, "Storing.");
        let points: Vec<_> = stages[1].points.iter().map(|p| (p.at_s, p.count, p.p99_s)).collect();
        assert_eq!(
            points,
            [(1.0, 100, Some(0.001)), (2.0, 100, Some(0.1)), (3.0, 0, None), (5.01, 40, Some(0.001))],
            "after a restart from nothing"
        );
        assert!((stages[1].points[1].sum_s - 5.0).abs() < 1e-9);
        assert_eq!(stages[0].points[0].p99_s, None, "no finite bucket");
        assert_eq!((&*series[0].name, series[0].kind), ("load", MonitoredKind::Gauge));
        assert_eq!(series[0].points, [(1.0, 500.0), (2.0, 550.0), (3.0, 550.0), (5.0, 0.0)]);
        assert_eq!((&*series[1].name, &*series[1].source), ("seen_total{code=\"200\"}", "dna"));
        let rates: Vec<f64> = series[1].points.iter().map(|(_, rate)| rate.round()).collect();
        assert_eq!(rates, [91.0, 100.0, 0.0, 15.0], "nothing is said of a hundredth of a second");
    }

    #[test]
    fn of_a_distribution_the_mean_is_told_and_a_part_only_when_it_is_named() {
        let told = |pattern: &str| {
            let mut account = Account::new("x", &[pattern.to_owned()]);
            for (at, sum, count) in [(0.0, 5.0, 100), (1.0, 5.5, 200), (2.0, 5.5, 200), (3.0, 0.3, 10)] {
                let text = format!(
                    "# TYPE took_seconds histogram\ntook_seconds_bucket{{a=\"b\",le=\"+Inf\"}} {count}\n\
                     took_seconds_sum{{a=\"b\"}} {sum}\ntook_seconds_count{{a=\"b\"}} {count}\n"
                );
                account.take(&parse(&text).unwrap(), at);
            }
            let round = |value: f64| (value * 1e6).round() / 1e6;
            let series = account.told().1.into_iter().map(|one| {
                let points: Vec<_> = one.points.iter().map(|(at, value)| (*at, round(*value))).collect();
                (one.name, one.kind, points)
            });
            series.collect::<Vec<_>>()
        };
        let mean = "took_seconds{a=\"b\"}".to_owned();
        let mean = vec![(mean, MonitoredKind::Mean, vec![(1.0, 0.005), (3.0, 0.03)])];
        for pattern in ["took_*", "took_seconds", "*", "took_seconds{a=\"*\"}"] {
            assert_eq!(told(pattern), mean, "{pattern}");
        }
        let count = "took_seconds_count{a=\"b\"}".to_owned();
        let rate = vec![(count, MonitoredKind::Counter, vec![(1.0, 100.0), (2.0, 0.0), (3.0, 10.0)])];
        assert_eq!(told("took_*_count"), rate);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut text = String::new();
        for index in 0..300 {
            text += &format!("g{{i=\"{index}\"}} {index}\n");
        }
        let mut account = Account::new("x", &["g".to_owned()]);
        for at in 0..5000 {
            account.take(&parse(if at == 0 { &text } else { "g{i=\"7\"} 1" }).unwrap(), f64::from(at));
        }
        let (_, series) = account.told();
        assert!(account.overflowed && series.len() == MOST_SERIES);
        let points = &series[7].points;
        assert!(points.len() <= MOST_POINTS && points.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert_eq!(points.last().map(|point| point.0), Some(4999.0));
    }
}
