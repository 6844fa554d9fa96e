//! What `check` prints: what would run, and what of the script means nothing here.

use std::fmt::Write as _;

use super::duration::shown;
use super::model::*;
use crate::plan::Plan;

/// Everything a run of the script would do, in words.
pub fn describe(script: &Script) -> String {
    let mut text = String::new();
    let config = &script.config;
    line(&mut text, "script", &script.path.display().to_string());
    let environment =
        config.environment.as_ref().map_or(String::new(), |name| format!(" (environment {name})"));
    line(&mut text, "target", &format!("{}{environment}", config.target));

    let plan = Plan::new(&config.phases, config.seed);
    for (index, phase) in plan.phases().iter().enumerate() {
        let label = if index == 0 { "phases" } else { "" };
        let name = phase.phase.name.as_ref().map_or(String::new(), |name| format!(" {name}:"));
        let most = phase.phase.max_vusers.map_or(String::new(), |most| format!(", at most {most} at a time"));
        let users = match phase.arrivals {
            0 => String::new(),
            _ if matches!(phase.phase.kind, PhaseKind::Count { .. }) => String::new(),
            arrivals => format!(", {}", users(arrivals)),
        };
        line(
            &mut text,
            label,
            &format!("{}.{name} {} for {}{users}{most}", index + 1, phase.load(), shown(phase.duration)),
        );
    }
    line(&mut text, "in all", &format!("{} in {}", users(plan.len()), shown(plan.duration())));

    let weights: u32 = script.scenarios.iter().map(|scenario| scenario.weight).sum();
    for (index, scenario) in script.scenarios.iter().enumerate() {
        let label = if index == 0 { "scenarios" } else { "" };
        let share = match (script.scenarios.len(), weights) {
            (1, _) | (_, 0) => String::new(),
            _ => format!(", {:.0} % of the users", f64::from(scenario.weight) * 100.0 / f64::from(weights)),
        };
        line(
            &mut text,
            label,
            &format!("{} ({}{share}): {}", scenario.name, engine(scenario.engine), steps(&scenario.flow)),
        );
    }
    for (label, scenario) in [("before", &script.before), ("after", &script.after)] {
        if let Some(scenario) = scenario {
            line(&mut text, label, &format!("{}: {}", engine(scenario.engine), steps(&scenario.flow)));
        }
    }
    for payload in &config.payloads {
        line(&mut text, "rows", &rows(payload));
    }
    for group in &config.listeners {
        line(&mut text, "listeners", &listeners(group));
        for payload in &group.payloads {
            line(&mut text, "", &rows(payload));
        }
    }
    if let Some(delivery) = &config.delivery {
        let expect = match delivery.expect {
            None => "nothing is expected, so nothing is called complete".to_owned(),
            Some(DeliveryExpectation::Circle) => {
                "expected by everyone whose circle holds the place".to_owned()
            }
            Some(DeliveryExpectation::All) => "expected by all listeners".to_owned(),
            Some(DeliveryExpectation::Nobody) => "expected by nobody".to_owned(),
            Some(DeliveryExpectation::Number(number)) => format!("expected by {number} listeners"),
        };
        line(
            &mut text,
            "delivery",
            &format!(
                "`{}`, marked in {}, read in {}; {expect}",
                delivery.event,
                delivery.stamp.join("."),
                delivery.read.join(".")
            ),
        );
    }
    for monitor in &config.monitor {
        let series = match &monitor.series[..] {
            [] => "the stages of its work".to_owned(),
            series => series.join(", "),
        };
        let name = monitor.name.as_ref().map_or_else(String::new, |name| format!("{name}: "));
        line(
            &mut text,
            "monitor",
            &format!(
                "{name}{series}, every {}, from {}",
                shown(monitor.every),
                without_secrets(&monitor.url)
            ),
        );
    }
    if let Some(ensure) = &config.ensure {
        for (metric, limit) in &ensure.thresholds {
            line(&mut text, "ensure", &format!("{metric} below {limit}"));
        }
        for (expression, strict) in &ensure.conditions {
            line(&mut text, "ensure", &format!("{expression}{}", if *strict { "" } else { " (not strict)" }));
        }
        if let Some(rate) = ensure.max_error_rate {
            line(&mut text, "ensure", &format!("at most {rate} % of the users fail"));
        }
    }
    let unconfirmed = script.scenarios.iter().map(|scenario| unconfirmed(&scenario.flow)).sum::<usize>();
    if unconfirmed > 0 {
        let emits =
            if unconfirmed == 1 { "1 emit asks".to_owned() } else { format!("{unconfirmed} emits ask") };
        line(
            &mut text,
            "note",
            &format!(
                "{emits} for no answer, so nothing would confirm it: add `acknowledge: true`, or run with --ack"
            ),
        );
    }
    let ignored = script.warnings.len();
    if ignored > 0 {
        let warnings = if ignored == 1 { "1 warning".to_owned() } else { format!("{ignored} warnings") };
        line(&mut text, "note", &format!("{warnings} above"));
    }
    text
}

/// A URL may hold a password.
fn without_secrets(url: &str) -> String {
    let Ok(mut url) = url::Url::parse(url) else { return String::new() };
    // What has a host takes both.
    let _ = (url.set_username(""), url.set_password(None));
    url.into()
}

/// `path:line:column: message`.
pub fn warning_line(warning: &Warning) -> String {
    let mut place = warning.path.display().to_string();
    if warning.line > 0 {
        let _ = write!(place, ":{}:{}", warning.line, warning.column);
    }
    format!("{place}: {}", warning.message)
}

fn line(text: &mut String, label: &str, value: &str) {
    let _ = writeln!(text, "{label:<11} {value}");
}

fn users(count: u64) -> String {
    if count == 1 { "1 user".into() } else { format!("{count} users") }
}

fn engine(engine: Engine) -> &'static str {
    match engine {
        Engine::Http => "http",
        Engine::SocketIo => "socketio",
        Engine::WebSocket => "ws",
    }
}

/// `GET /, emit save_msg (acknowledged), think 1s`.
fn steps(flow: &[Step]) -> String {
    let parts: Vec<String> = flow
        .iter()
        .map(|step| match &step.action {
            Action::Http(request) => request.name.clone(),
            Action::Emit(emit) => {
                let event =
                    emit.event.as_constant().map_or_else(|| "{{...}}".into(), super::template::text_of);
                let answer = match (&emit.acknowledge, &emit.response) {
                    (Some(_), Some(_)) => " (acknowledged and answered)",
                    (Some(_), None) => " (acknowledged)",
                    (None, Some(_)) => " (answered)",
                    (None, None) => "",
                };
                format!("emit {event}{answer}")
            }
            Action::Send(_) => "send".into(),
            Action::Think { pause: Think::Fixed(pause), .. } => format!("think {}", shown(*pause)),
            Action::Think { .. } => "think".into(),
            Action::Log(_) => "log".into(),
            Action::Loop(repeat) => {
                let times = match &repeat.times {
                    LoopTimes::Count { to: None, .. } => "for ever".to_owned(),
                    LoopTimes::Count { from, to: Some(to) } => format!("{} times", (to - from).max(0)),
                    LoopTimes::Over(items) => format!("over {} items", items.len()),
                    LoopTimes::OverVariable(name) => format!("over {name}"),
                    LoopTimes::Late(_) => "as often as each user says".to_owned(),
                };
                format!("loop {times} ({})", steps(&repeat.steps))
            }
        })
        .collect();
    if parts.is_empty() { "nothing".into() } else { parts.join(", ") }
}

fn unconfirmed(flow: &[Step]) -> usize {
    flow.iter()
        .map(|step| match &step.action {
            Action::Emit(emit) => usize::from(emit.acknowledge.is_none() && emit.response.is_none()),
            Action::Loop(repeat) => unconfirmed(&repeat.steps),
            _ => 0,
        })
        .sum()
}

fn rows(payload: &Payload) -> String {
    let path = payload.path.display();
    let count = payload.rows.len();
    match (&payload.load_all_as, payload.order) {
        (Some(name), _) => format!("{count} of {path}, all as `{name}`"),
        (None, RowOrder::Random) => {
            format!("{count} of {path}, drawn at random: {}", payload.fields.join(", "))
        }
        (None, RowOrder::Sequence) => format!("{count} of {path}, in order: {}", payload.fields.join(", ")),
    }
}

fn listeners(group: &ListenerGroup) -> String {
    let mut text = group.count.to_string();
    if let Some(name) = &group.name {
        let _ = write!(text, " ({name})");
    }
    if let Some(place) = &group.place {
        let (from, to) = place.radius_m;
        let radius = if from == to { format!("{from} m") } else { format!("{from} to {to} m") };
        let _ =
            write!(text, " within {} m of {}, {}, hearing {radius}", place.within_m, place.lng, place.lat);
    }
    let _ = write!(text, ": {}", steps(&group.flow));
    if let Some(moving) = &group.moving {
        let _ = write!(
            text,
            "; each {} they walk up to {} m: {}",
            shown(moving.every),
            moving.step_m,
            steps(&moving.flow)
        );
    }
    if let Some(every) = group.returning.as_ref().and_then(|returning| returning.every) {
        let _ = write!(text, "; about each {} they leave and come back", shown(every));
    }
    match group.slow {
        Some(Slow::BytesPerSecond(rate)) => {
            let _ = write!(text, "; slow, {rate} bytes a second, so nothing is expected of them");
        }
        Some(Slow::StopReading) => {
            text.push_str("; they stop reading, so nothing is expected of them");
        }
        None => {}
    }
    for storm in &group.storms {
        let how = match storm.how {
            Cut::Close => "leave",
            Cut::Drop => "are cut off",
            Cut::Silent => "fall silent",
        };
        let within =
            if storm.over.is_zero() { String::new() } else { format!(" within {}", shown(storm.over)) };
        let back = match storm.back {
            Back::Backoff => "come back by backoff",
            Back::AtOnce => "come back at once",
            Back::Never => "stay away",
        };
        let (hit, at) = (storm.hit(group.count), shown(storm.at));
        let _ = write!(text, "; at {at} {hit} of them {how}{within} and {back}");
    }
    text
}
