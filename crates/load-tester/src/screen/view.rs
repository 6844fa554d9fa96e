//! A frame: a header that is always there, one of five tabs, a line of keys. Everything fits 80 columns and 24 lines;
//! what is larger shows more rows and taller curves.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Sparkline};

use super::picture::{Picture, Point, Stage, Times};
use crate::outcome::{CheckKind, ProcessSample, names};
use crate::report::plain::one_line;
use crate::report::story::{numbered, program};
use crate::report::units::{bytes, count, figure, instant, latency as time, percent, thousands};

const NARROWEST: (u16, u16) = (60, 16);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tab {
    #[default]
    Overview,
    Latency,
    Delivery,
    Errors,
    Machines,
}

impl Tab {
    pub const ALL: [Self; 5] = [Self::Overview, Self::Latency, Self::Delivery, Self::Errors, Self::Machines];

    pub(super) fn step(self, by: usize) -> Self {
        Self::ALL[(self as usize + by) % Self::ALL.len()]
    }

    fn name(self) -> &'static str {
        match self {
            Self::Overview => "overview",
            Self::Latency => "latency",
            Self::Delivery => "delivery",
            Self::Errors => "errors",
            Self::Machines => "machines",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlay {
    Help,
    Log,
}

/// What of a picture is looked at, and how.
#[derive(Debug, Clone, Default)]
pub struct View {
    pub tab: Tab,
    pub overlay: Option<Overlay>,
    /// Seconds since the first phase began.
    pub elapsed_s: f64,
    /// Words say all that colours say, so `NO_COLOR` loses nothing.
    pub colour: bool,
    /// In place of the keys, until the next one is pressed.
    pub message: Option<String>,
}

impl View {
    pub(super) fn toggle(&mut self, overlay: Overlay) {
        self.overlay = if self.overlay == Some(overlay) { None } else { Some(overlay) };
    }

    fn of(&self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }

    fn bad(&self) -> Style {
        self.of(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn good(&self) -> Style {
        self.of(Color::Green)
    }

    fn head(&self) -> Style {
        self.of(Color::Blue).add_modifier(Modifier::BOLD)
    }
}

/// The frame as plain text, lines without trailing spaces.
pub fn text(picture: &Picture, view: &View, width: u16, height: u16) -> String {
    let backend = ratatui::backend::TestBackend::new(width, height);
    // Drawing into memory cannot fail.
    let Ok(mut terminal) = ratatui::Terminal::new(backend);
    let Ok(_) = terminal.draw(|frame| draw(frame, picture, view));
    let mut text = String::new();
    for row in terminal.backend().buffer().content().chunks(usize::from(width)) {
        let line: String = row.iter().map(ratatui::buffer::Cell::symbol).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

pub(super) fn draw(frame: &mut Frame<'_>, picture: &Picture, view: &View) {
    let area = frame.area();
    if area.width < NARROWEST.0 || area.height < NARROWEST.1 {
        let users = crate::progress::users(picture.points.back().map_or(0, |point| point.users));
        let errors = count(picture.total.error_count(), "error", "errors");
        let end = match picture.interrupted {
            Some(signal) => format!("{signal}: results follow. Q stops at once, without results."),
            None => "q stops.".to_owned(),
        };
        let words = format!(
            "drumfire runs, at {}: {users}, {errors}. {end} The screen needs {} x {} characters, this is {} x {}.",
            instant(view.elapsed_s),
            NARROWEST.0,
            NARROWEST.1,
            area.width,
            area.height
        );
        frame.render_widget(Paragraph::new(words).wrap(ratatui::widgets::Wrap { trim: true }), area);
        return;
    }
    let [header, body, footer] =
        Layout::vertical([Constraint::Length(3), Constraint::Min(0), Constraint::Length(1)]).areas(area);
    draw_header(frame, header, picture, view);
    match view.tab {
        Tab::Overview => overview(frame, body, picture, view),
        Tab::Latency => latency(frame, body, picture, view),
        Tab::Delivery => delivery(frame, body, picture, view),
        Tab::Errors => errors(frame, body, picture, view),
        Tab::Machines => machines(frame, body, picture, view),
    }
    let keys = view.message.clone().unwrap_or_else(|| {
        if picture.interrupted() {
            "Q stop at once, without results   s snapshot   l log   ? help".to_owned()
        } else {
            "q stop arrivals and finish   s snapshot   l log   ? help".to_owned()
        }
    });
    frame.render_widget(Paragraph::new(Line::styled(format!(" {keys}"), view.of(Color::Gray))), footer);
    match view.overlay {
        Some(Overlay::Help) => help(frame, area),
        Some(Overlay::Log) => log(frame, area, picture),
        None => {}
    }
}

// ---------------------------------------------------------------------------------------------------- header

fn draw_header(frame: &mut Frame<'_>, area: Rect, picture: &Picture, view: &View) {
    let valid = match &picture.validity {
        None => Span::raw("nothing measured yet"),
        Some(validity) if validity.valid => Span::styled("● VALID so far", view.good()),
        Some(validity) => {
            let broken = validity.rules.iter().find(|rule| !rule.held);
            let what = broken.map_or_else(String::new, |rule| format!(": {}", rule.what));
            Span::styled(format!("● INVALID{what}"), view.bad())
        }
    };
    let name = Line::from(vec![
        Span::styled(" drumfire ", view.head()),
        Span::raw(format!("{} -> {}", picture.script, picture.target_url)),
    ]);
    two_sided(frame, row(area, 0), name, valid.into());
    two_sided(frame, row(area, 1), stage(picture, view), checks(picture, view));
    let mut tabs = Vec::new();
    for (index, tab) in Tab::ALL.into_iter().enumerate() {
        let label = format!(" {} {} ", index + 1, tab.name());
        let style =
            if tab == view.tab { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
        // Marked in words too: a snapshot has no reversed text.
        let label = if tab == view.tab { format!("[{}]", label.trim()) } else { label };
        tabs.push(Span::styled(label, style));
    }
    frame.render_widget(Paragraph::new(Line::from(tabs)), row(area, 2));
}

fn stage<'a>(picture: &Picture, view: &View) -> Line<'a> {
    let clock = |seconds: f64| format!("{}:{:02}", seconds as u64 / 60, seconds as u64 % 60);
    let planned = picture.planned_s();
    let left = match planned - view.elapsed_s {
        left if left > 0.0 => format!(" of {}, {} left", clock(planned), clock(left.ceil())),
        _ => String::new(),
    };
    let at = format!("{}{left}", clock(view.elapsed_s));
    let text = match (&picture.stage, picture.interrupted) {
        (Stage::AwaitingDeliveries, _) => format!(" waiting for the last deliveries   {at}"),
        (Stage::Preparing, None) => " preparing".to_owned(),
        (Stage::Connecting { ready, of }, None) => {
            format!(" listeners connecting: {} of {} stand", thousands(*ready as u64), thousands(*of as u64))
        }
        (_, Some(signal)) => {
            return Line::styled(format!(" {signal}: no more arrivals, results follow"), view.bad());
        }
        (Stage::Draining, None) => {
            let users = picture.points.back().map_or(0, |point| point.users);
            let users = crate::progress::users(users);
            format!(" all phases over, {users} still at work   {}", clock(view.elapsed_s))
        }
        (Stage::Running { phase }, None) => {
            let info = picture.phases.get(*phase);
            let name = info
                .filter(|info| !info.name.is_empty())
                .map_or_else(String::new, |info| format!(" “{}”", one_line(&info.name, 20)));
            let load = info.map_or("", |info| &info.load);
            format!(" phase {}/{}{name} {load}  {at}", phase + 1, picture.phases.len())
        }
    };
    Line::raw(text)
}

fn checks<'a>(picture: &Picture, view: &View) -> Line<'a> {
    let expected_failed = picture.total.counter("plugins.expect.failed");
    let mut spans = Vec::new();
    let failing = picture.checks.iter().filter(|check| !check.passed).count();
    let held = picture.checks.len() - failing;
    if held > 0 {
        spans.push(Span::styled(format!("● {held} ensure ok "), view.good()));
    }
    if failing > 0 {
        spans.push(Span::styled(format!("● {failing} BROKEN "), view.bad()));
    }
    if expected_failed > 0 {
        spans.push(Span::styled(format!("● {} expect FAILED ", thousands(expected_failed)), view.bad()));
    }
    Line::from(spans)
}

/// The right side goes first where there is not room for both; the left is cut then, and says so.
fn two_sided(frame: &mut Frame<'_>, area: Rect, left: Line<'_>, right: Line<'_>) {
    let width = (right.width() as u16 + 1).min(area.width);
    let [a, b] = Layout::horizontal([Constraint::Min(0), Constraint::Length(width)]).areas(area);
    let cut = left.width() >= usize::from(a.width);
    frame.render_widget(Paragraph::new(left), a);
    if cut && a.width >= 2 {
        frame.render_widget(Paragraph::new("… "), Rect { x: a.right() - 2, width: 2, ..a });
    }
    frame.render_widget(Paragraph::new(right), b);
}

fn row(area: Rect, index: u16) -> Rect {
    Rect { y: area.y + index, height: 1, ..area }
}

// ---------------------------------------------------------------------------------------------------- curves

/// One curve: its label on the left, now and the whole run on the right.
struct Curve {
    label: &'static str,
    values: Vec<Option<u64>>,
    /// Curves with the same number are drawn to one scale.
    scale: usize,
    now: String,
    run: String,
    colour: Color,
}

const LABEL: u16 = 19;
const NUMBER: u16 = 12;

/// Draws as many as there is room for, each as tall as the room allows, under a line of headings. Answers what is left.
fn curves(frame: &mut Frame<'_>, area: Rect, view: &View, curves: &[Curve], most_tall: u16) -> Rect {
    let width = usize::from(area.width.saturating_sub(LABEL + 2 * NUMBER));
    let longest = curves.iter().map(|curve| curve.values.len()).max().unwrap_or(0);
    let shown = width.min(longest);
    let heading = format!(
        " {:<l$}{:<width$}{:>n$}{:>n$}",
        "",
        format!("last {shown} s"),
        "now",
        "run",
        l = usize::from(LABEL) - 1,
        n = usize::from(NUMBER)
    );
    frame.render_widget(Paragraph::new(Line::styled(heading, view.head())), row(area, 0));
    let room = area.height.saturating_sub(1);
    let count = (curves.len() as u16).min(room);
    let tall = (room / count.max(1)).clamp(1, most_tall);
    for (index, curve) in curves.iter().take(usize::from(count)).enumerate() {
        let area = Rect { y: area.y + 1 + index as u16 * tall, height: tall, ..area };
        let [label, line, now, run] = Layout::horizontal([
            Constraint::Length(LABEL),
            Constraint::Min(0),
            Constraint::Length(NUMBER),
            Constraint::Length(NUMBER),
        ])
        .areas(area);
        let bottom = |area: Rect| row(area, area.height - 1);
        frame.render_widget(Paragraph::new(format!(" {}", curve.label)), bottom(label));
        let most = curves
            .iter()
            .filter(|other| other.scale == curve.scale)
            .flat_map(|other| &other.values[other.values.len().saturating_sub(width)..])
            .filter_map(|value| *value)
            .max()
            .unwrap_or(0);
        let from = curve.values.len().saturating_sub(width);
        frame.render_widget(
            Sparkline::default()
                .data(curve.values[from..].iter().copied())
                .max(most.max(1))
                .absent_value_symbol(" ")
                .style(view.of(curve.colour)),
            line,
        );
        let right = |text: &str| Paragraph::new(text.to_owned()).right_aligned();
        frame.render_widget(right(&curve.now), bottom(now));
        frame.render_widget(right(&curve.run), bottom(run));
    }
    let used = 1 + count * tall;
    Rect { y: area.y + used, height: area.height - used, ..area }
}

fn series(picture: &Picture, of: impl Fn(&Point) -> Option<u64>) -> Vec<Option<u64>> {
    picture.points.iter().map(of).collect()
}

/// A count a second, and the sum of the run.
fn counted(
    picture: &Picture,
    label: &'static str,
    scale: usize,
    colour: Color,
    of: fn(&Point) -> u64,
    run: u64,
) -> Curve {
    let now =
        picture.points.back().map_or_else(|| "-".to_owned(), |point| format!("{}/s", thousands(of(point))));
    Curve { label, values: series(picture, |point| Some(of(point))), scale, now, run: thousands(run), colour }
}

#[derive(Clone, Copy)]
enum At {
    P50,
    P99,
}

/// A percentile of each second; `run` is the same of the whole run, in milliseconds.
fn timed(
    picture: &Picture,
    label: &'static str,
    scale: usize,
    colour: Color,
    of: fn(&Point) -> Times,
    at: At,
    name: &str,
) -> Curve {
    let pick = move |times: Times| {
        times.map(|(p50, p99)| match at {
            At::P50 => p50,
            At::P99 => p99,
        })
    };
    let values = series(picture, |point| pick(of(point)));
    // First to last hearer are known when a message has been judged: the latest that was.
    let judged = [names::DELIVERY_FIRST, names::DELIVERY_MEDIAN, names::DELIVERY_LAST].contains(&name);
    let latest =
        if judged { values.iter().rev().flatten().next() } else { values.last().and_then(Option::as_ref) };
    let now = latest.copied().map_or_else(|| "-".to_owned(), |micros| time(micros as f64 / 1000.0));
    let summary = if name.is_empty() { picture.total.answered.as_ref() } else { picture.total.summary(name) };
    let run = summary.map_or_else(
        || "-".to_owned(),
        |s| {
            time(match at {
                At::P50 => s.median,
                At::P99 => s.p99,
            })
        },
    );
    Curve { label, values, scale, now, run, colour }
}

// ---------------------------------------------------------------------------------------------------- tabs

fn overview(frame: &mut Frame<'_>, area: Rect, picture: &Picture, view: &View) {
    let total = &picture.total;
    let mut shown = vec![
        counted(picture, "arrivals planned", 0, Color::Gray, |p| p.due, picture.due),
        counted(picture, "arrivals started", 0, Color::Cyan, |p| p.started, total.launched()),
        counted(picture, "requests", 1, Color::Cyan, |p| p.requests, total.requests_started),
        counted(picture, "errors", 2, Color::Red, |p| p.errors, total.error_count()),
        gauge(picture, "users", 3, |p| p.users, total.concurrent_users),
        gauge(picture, "connections", 4, |p| p.connections, total.connections),
        timed(picture, "from due, p50", 5, Color::Yellow, |p| p.from_due, At::P50, names::RESPONSE_FROM_DUE),
        timed(picture, "from due, p99", 6, Color::Yellow, |p| p.from_due, At::P99, names::RESPONSE_FROM_DUE),
        timed(picture, "service, p99", 7, Color::Yellow, |p| p.service, At::P99, ""),
    ];
    if total.skipped() > 0 {
        shown.insert(2, counted(picture, "arrivals skipped", 0, Color::Red, |p| p.skipped, total.skipped()));
    }
    if picture.delivers {
        shown.push(timed(
            picture,
            "delivery, p99",
            8,
            Color::Magenta,
            |p| p.delivery,
            At::P99,
            names::DELIVERY,
        ));
    }
    // Curves take what the lists do not need; at least five rows of those are shown.
    let events = picture.server_events.values().filter(|n| **n > 0).count();
    let rows = (picture.errors.len().max(events + 2) as u16 + 1).clamp(6, (area.height / 3).max(6));
    let lists = rows + 2;
    let top = Rect { height: area.height.saturating_sub(lists), ..area };
    let left = curves(frame, top, view, &shown, 3);
    let below = Rect { height: area.bottom() - left.y, ..left };
    let [lists, foot] = Layout::vertical([Constraint::Min(0), Constraint::Length(2)]).areas(below);
    let [one, two] =
        Layout::horizontal([Constraint::Percentage(45), Constraint::Percentage(55)]).areas(lists);
    busiest(frame, one, picture, view);
    let mut lines = vec![Line::styled(" errors", view.head())];
    let mut rows: Vec<(u64, String)> = picture
        .errors
        .iter()
        .map(|error| {
            (error.count, format!("{} at {}", one_line(&error.cause, 100), one_line(&error.step, 60)))
        })
        .collect();
    // To Artillery they are answers, and none of its errors.
    rows.extend(refusals(picture).map(|(code, n)| (n, format!("answers with HTTP {code}"))));
    rows.sort_by_key(|(n, _)| std::cmp::Reverse(*n));
    if rows.is_empty() {
        lines.push(Line::raw(" none"));
    }
    let wide = usize::from(two.width).saturating_sub(12);
    for (n, text) in rows {
        lines.push(Line::raw(format!("{:>9}  {}", thousands(n), one_line(&text, wide))));
    }
    frame.render_widget(Paragraph::new(lines), two);
    let mut lines = Vec::new();
    if let Some(target) = &picture.target {
        let who = format!("target {} ({})", program(&target.command), target.pid);
        lines.push(Line::raw(machine(&who, &target.sample)));
    }
    if let Some(tester) = &picture.tester {
        let late = total.summary(names::START_LATENESS);
        let late = late.map_or_else(String::new, |s| format!("   late p99 {}", time(s.p99)));
        lines.push(Line::raw(format!("{}{late}", machine("tester", tester))));
    }
    frame.render_widget(Paragraph::new(lines), foot);
}

/// Answers of HTTP 4xx and 5xx, by status.
fn refusals(picture: &Picture) -> impl Iterator<Item = (&str, u64)> {
    let codes = picture.total.codes.iter().filter(|(code, n)| code.starts_with(['4', '5']) && **n > 0);
    codes.map(|(code, n)| (code.as_str(), *n))
}

/// A number at each second's end, and the highest of the run.
fn gauge(
    picture: &Picture,
    label: &'static str,
    scale: usize,
    of: fn(&Point) -> u64,
    most: Option<u64>,
) -> Curve {
    let values = series(picture, |point| Some(of(point)));
    let most = values.iter().flatten().copied().max().max(most);
    let now = values.last().copied().flatten().map_or_else(|| "-".to_owned(), thousands);
    let run = most.map_or_else(|| "-".to_owned(), |most| format!("max {}", thousands(most)));
    Curve { label, values, scale, now, run, colour: Color::Green }
}

/// Endpoints by requests, and events by how often they came.
fn busiest(frame: &mut Frame<'_>, area: Rect, picture: &Picture, view: &View) {
    let mut lines = vec![Line::styled(" endpoints and events", view.head())];
    let mut rows: Vec<(String, u64, Option<f64>)> = picture
        .total
        .summaries
        .iter()
        .filter_map(|(name, s)| {
            let endpoint = name.strip_prefix(crate::report::loaded::ENDPOINTS)?;
            Some((one_line(endpoint, 60), s.count.unwrap_or(0), Some(s.p99)))
        })
        .collect();
    let sent = picture.total.counter("socketio.emit");
    if sent > 0 {
        rows.push(("emits".to_owned(), sent, None));
    }
    rows.extend(
        picture.server_events.iter().map(|(name, n)| (format!("<- {}", one_line(name, 60)), *n, None)),
    );
    rows.retain(|(_, n, _)| *n > 0);
    rows.sort_by_key(|(_, n, _)| std::cmp::Reverse(*n));
    for (name, n, p99) in rows.into_iter().take(usize::from(area.height)) {
        let p99 = p99.map_or_else(String::new, |p99| format!("  p99 {}", time(p99)));
        lines.push(Line::raw(format!("{:>12}  {name}{p99}", thousands(n))));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

fn machine(who: &str, sample: &ProcessSample) -> String {
    let all: f64 = sample.threads.iter().map(|(_, cpu)| cpu).sum();
    let (name, most) = numbered(&sample.threads)
        .into_iter()
        .fold((String::new(), 0.0), |best, (name, cpu)| if cpu > best.1 { (name, cpu) } else { best });
    let busiest = if name.is_empty() { String::new() } else { format!(" ({name} {:.0} %)", most * 100.0) };
    if gone(sample) {
        return format!(" {who}: not there any more");
    }
    format!(
        " {who}: {} cores{busiest}, {}, {} files",
        figure(all),
        bytes(sample.rss_bytes),
        thousands(sample.open_files)
    )
}

/// A process that has ended keeps its number until its parent has looked, and nothing else.
fn gone(sample: &ProcessSample) -> bool {
    sample.rss_bytes == 0 && sample.open_files == 0
}

fn latency(frame: &mut Frame<'_>, area: Rect, picture: &Picture, view: &View) {
    let due = names::RESPONSE_FROM_DUE;
    let shown = [
        timed(picture, "from due, p50", 0, Color::Yellow, |p| p.from_due, At::P50, due),
        timed(picture, "from due, p99", 1, Color::Yellow, |p| p.from_due, At::P99, due),
        timed(picture, "service, p50", 2, Color::Cyan, |p| p.service, At::P50, ""),
        timed(picture, "service, p99", 3, Color::Cyan, |p| p.service, At::P99, ""),
        timed(picture, "late start, p99", 4, Color::Gray, |p| p.lateness, At::P99, names::START_LATENESS),
    ];
    let table = picture.total.summaries.len() as u16 + 2;
    let top = Rect { height: area.height.saturating_sub(table).max(6), ..area };
    let rest = curves(frame, top, view, &shown, 4);
    let rest = Rect { height: area.bottom() - rest.y, ..rest };
    // The narrow table goes without p99.9.
    let narrow = rest.width < 100;
    let numbers = if narrow { 5 } else { 6 };
    let wide = usize::from(rest.width.saturating_sub(1 + numbers * 10)).min(60);
    let line = |name: &str, cells: [String; 6]| {
        let [count, p50, p95, p99, p999, max] = cells;
        let p999 = if narrow { String::new() } else { format!("{p999:>10}") };
        format!(" {name:<wide$}{count:>10}{p50:>10}{p95:>10}{p99:>10}{p999}{max:>10}")
    };
    let heads = ["count", "p50", "p95", "p99", "p99.9", "max"].map(str::to_owned);
    let mut lines = vec![Line::styled(line("whole run, ms", heads), view.head())];
    if picture.total.answered.is_none() {
        lines.push(Line::raw(" nothing was answered so far, so there is no latency"));
    }
    let mut rows: Vec<_> = picture
        .total
        .summaries
        .iter()
        .filter(|(name, s)| s.max > 0.0 || !name.contains(".connect."))
        .collect();
    // Answers first, in case there is no room for all.
    rows.sort_by_key(|(name, _)| !name.contains("response"));
    let room = usize::from(rest.height).saturating_sub(lines.len());
    let shown = if rows.len() > room { room.saturating_sub(1) } else { rows.len() };
    let more = rows.len() - shown;
    for (name, s) in rows.into_iter().take(shown) {
        let name = name.strip_prefix(crate::report::loaded::ENDPOINTS).unwrap_or(name);
        let name = if narrow { name.strip_prefix("drumfire.").unwrap_or(name) } else { name };
        let optional = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), figure);
        let count = s.count.map_or_else(|| "-".to_owned(), thousands);
        let cells = [count, figure(s.median), figure(s.p95), figure(s.p99), optional(s.p999), figure(s.max)];
        lines.push(Line::raw(line(&one_line(name, wide.saturating_sub(2)), cells)));
    }
    if more > 0 {
        lines.push(Line::raw(format!(" and {more} more; a taller terminal shows them")));
    }
    frame.render_widget(Paragraph::new(lines), rest);
}

fn delivery(frame: &mut Frame<'_>, area: Rect, picture: &Picture, view: &View) {
    if !picture.delivers {
        let words = " The script has no `config.delivery`, so nothing is known of who heard what.";
        frame.render_widget(Paragraph::new(words), area);
        return;
    }
    let mut shown =
        vec![counted(picture, "heard", 0, Color::Magenta, |p| p.heard, total_of(picture, names::DELIVERY))];
    if picture.points.iter().any(|point| point.expected.is_some()) {
        let missing = picture.delivery.as_ref().map_or(0, |d| d.missing);
        let now = picture
            .points
            .iter()
            .rev()
            .find(|point| point.expected.is_some())
            .map(|point| point.missing.unwrap_or(0))
            .map_or_else(|| "-".to_owned(), |n| format!("{}/s", thousands(n)));
        let values = series(picture, |point| point.expected.map(|_| point.missing.unwrap_or(0)));
        shown.push(Curve {
            label: "missing",
            values,
            scale: 9,
            now,
            run: thousands(missing),
            colour: Color::Red,
        });
    }
    if picture.total.summary(names::DELIVERY_ACK).is_some() {
        shown.push(timed(picture, "ack, p99", 2, Color::Cyan, |p| p.ack, At::P99, names::DELIVERY_ACK));
    }
    // Known of a message once it is judged.
    let judged = picture.total.summary(names::DELIVERY_LAST).is_some();
    if !judged {
        shown.push(timed(picture, "each, p99", 3, Color::Yellow, |p| p.delivery, At::P99, names::DELIVERY));
    }
    let known = [
        timed(picture, "first, p99", 3, Color::Yellow, |p| p.first, At::P99, names::DELIVERY_FIRST),
        timed(picture, "median, p99", 4, Color::Yellow, |p| p.median, At::P99, names::DELIVERY_MEDIAN),
        timed(picture, "last, p50", 5, Color::Magenta, |p| p.last, At::P50, names::DELIVERY_LAST),
        timed(picture, "last, p99", 6, Color::Magenta, |p| p.last, At::P99, names::DELIVERY_LAST),
    ];
    shown.extend(known.into_iter().filter(|_| judged));
    let classes = picture.delivery.as_ref().map_or(0, |d| d.classes.len() as u16);
    let top = Rect { height: area.height.saturating_sub(7 + classes).max(8).min(area.height), ..area };
    let rest = curves(frame, top, view, &shown, 4);
    let rest = Rect { height: area.bottom() - rest.y, ..rest };
    let mut lines = vec![Line::styled(" messages whose deadline is over", view.head())];
    match &picture.delivery {
        Some(d) if d.messages > 0 => {
            let heard = format!(
                " {} of “{}”, {} heard",
                thousands(d.messages),
                one_line(&d.event, 40),
                thousands(d.heard)
            );
            lines.push(Line::raw(heard));
            match (d.expected, &d.expectation) {
                (Some(expected), Some(rule)) => {
                    let complete = percent(expected.saturating_sub(d.missing), expected);
                    let style = if d.missing == 0 { view.good() } else { view.bad() };
                    lines.push(Line::from(vec![
                        Span::raw(format!(" expected ({}) {}: ", one_line(rule, 20), thousands(expected))),
                        Span::styled(format!("{complete} complete, {} missing", thousands(d.missing)), style),
                    ]));
                }
                _ => lines.push(Line::raw(" nothing was expected, so nothing is said of completeness")),
            }
            lines.push(Line::raw(format!(
                " {} twice, {} late, {} uncalled for, {} out of order, {} not sent",
                thousands(d.duplicates),
                thousands(d.late),
                thousands(d.unexpected),
                thousands(d.out_of_order),
                thousands(d.not_sent)
            )));
            for class in &d.classes {
                let missing = match class.expected {
                    Some(_) => format!("{} missing", thousands(class.missing)),
                    None => "nothing expected".to_owned(),
                };
                lines.push(Line::raw(format!(
                    "   {}: {} listeners, {} heard, {missing}",
                    one_line(&class.name, 30),
                    thousands(class.listeners),
                    thousands(class.heard),
                )));
            }
            lines.extend(d.samples.iter().map(|sample| Line::raw(format!(" - {}", one_line(sample, 200)))));
        }
        _ => lines.push(Line::raw(" none yet")),
    }
    frame.render_widget(Paragraph::new(lines), rest);
}

fn total_of(picture: &Picture, name: &str) -> u64 {
    picture.total.summary(name).and_then(|s| s.count).unwrap_or(0)
}

fn errors(frame: &mut Frame<'_>, area: Rect, picture: &Picture, view: &View) {
    let shown = [counted(picture, "errors", 0, Color::Red, |p| p.errors, picture.total.error_count())];
    let top = Rect { height: 3, ..area };
    let rest = curves(frame, top, view, &shown, 2);
    let rest = Rect { height: area.bottom() - rest.y, ..rest };
    let wide = usize::from(rest.width);
    let mut lines = Vec::new();
    let refused: Vec<String> =
        refusals(picture).map(|(code, n)| format!("{} with {code}", thousands(n))).collect();
    if !refused.is_empty() {
        let text = format!("{} (answers like any other to Artillery)", refused.join(", "));
        lines.push(Line::from(vec![Span::styled(" answers of HTTP: ", view.bad()), Span::raw(text)]));
    }
    // Broken ones first, in case there is no room for all.
    let mut checks: Vec<_> = picture.checks.iter().collect();
    checks.sort_by_key(|check| check.passed);
    for check in checks {
        let kind = match check.kind {
            CheckKind::Ensure => "ensure",
            CheckKind::Expect => "expect",
        };
        let (word, style) = if check.passed { ("holds", view.good()) } else { ("broken", view.bad()) };
        lines.push(Line::from(vec![
            Span::styled(format!(" {kind} {word} so far: "), style),
            Span::raw(format!(
                "{} (observed {})",
                one_line(&check.expression, 100),
                one_line(&check.observed, 60)
            )),
        ]));
    }
    lines.truncate(usize::from(rest.height / 2));
    lines.push(Line::styled(
        format!(" {:>9} {:>8}  cause, where, and the first that was seen", "count", "last"),
        view.head(),
    ));
    if picture.errors.is_empty() {
        lines.push(Line::raw(" none so far"));
    }
    let room = usize::from(rest.height);
    for (index, error) in picture.errors.iter().enumerate() {
        let left = picture.errors.len() - index;
        let tall = if error.sample.is_empty() { 2 } else { 3 };
        if lines.len() + tall + usize::from(left > 1) > room {
            lines.push(Line::raw(format!(" and {left} more; a taller terminal shows them")));
            break;
        }
        let indent = " ".repeat(21);
        let cut = |text: &str| one_line(text, wide.saturating_sub(22));
        lines.push(Line::from(vec![
            Span::raw(format!(" {:>9} {:>8}  ", thousands(error.count), instant(error.last_s))),
            Span::styled(cut(&error.cause), view.bad()),
        ]));
        lines.push(Line::raw(format!("{indent}{}", cut(&format!("{}, {}", error.step, error.endpoint)))));
        if !error.sample.is_empty() {
            lines.push(Line::raw(format!("{indent}{}", cut(&error.sample))));
        }
    }
    frame.render_widget(Paragraph::new(lines), rest);
}

fn machines(frame: &mut Frame<'_>, area: Rect, picture: &Picture, view: &View) {
    let percent_of = |of: fn(&Point) -> Option<u64>, label, scale, colour| {
        let values = series(picture, of);
        let text =
            |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |mille| format!("{} %", mille / 10));
        let most = values.iter().flatten().copied().max();
        let run = most.map_or_else(|| "-".to_owned(), |most| format!("max {} %", most / 10));
        Curve { label, now: text(values.last().copied().flatten()), run, values, scale, colour }
    };
    let shown = [
        percent_of(|p| p.tester, "tester's busiest", 0, Color::Cyan),
        percent_of(|p| p.target, "target's busiest", 0, Color::Magenta),
        timed(picture, "late start, p99", 1, Color::Yellow, |p| p.lateness, At::P99, names::START_LATENESS),
    ];
    let top = Rect { height: area.height / 3, ..area };
    let rest = curves(frame, top, view, &shown, 4);
    let rest = Rect { height: area.bottom() - rest.y, ..rest };
    let [one, two] = Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(rest);
    process(frame, one, view, "tester", picture.tester.as_ref());
    let who = picture.target.as_ref().map_or_else(
        || "target".to_owned(),
        |target| format!("target: {} ({})", one_line(program(&target.command), 30), target.pid),
    );
    process(frame, two, view, &who, picture.target.as_ref().map(|target| &target.sample));
    if let Some(validity) = &picture.validity {
        let tall = (validity.rules.len() as u16 + 1).min(rest.height);
        let mut lines = vec![Line::styled(" may the figures be believed", view.head())];
        for rule in &validity.rules {
            let style = if rule.held { view.good() } else { view.bad() };
            let word = if rule.held { "held" } else { "BROKEN" };
            lines.push(Line::from(vec![
                Span::styled(format!(" {word}: "), style),
                Span::raw(one_line(
                    &format!("{}: {} (limit {})", rule.what, rule.measured, rule.limit),
                    usize::from(rest.width).saturating_sub(word.len() + 4),
                )),
            ]));
        }
        let area = Rect { y: rest.bottom() - tall, height: tall, ..rest };
        frame.render_widget(Clear, area);
        frame.render_widget(Paragraph::new(lines), area);
    }
}

fn process(frame: &mut Frame<'_>, area: Rect, view: &View, who: &str, sample: Option<&ProcessSample>) {
    let mut lines = vec![Line::styled(format!(" {who}"), view.head())];
    match sample {
        None => lines.push(Line::raw(" not seen: not on this machine, or not ours to look at")),
        Some(sample) if gone(sample) => lines.push(Line::raw(" not there any more")),
        Some(sample) => {
            lines.push(Line::raw(format!(
                " memory {}, {} open files",
                bytes(sample.rss_bytes),
                thousands(sample.open_files)
            )));
            let mut threads = numbered(&sample.threads);
            threads.sort_by(|a, b| b.1.total_cmp(&a.1));
            for (name, cpu) in threads {
                let bar = "█".repeat((cpu.clamp(0.0, 1.0) * 12.0).round() as usize);
                let style = if cpu >= 0.95 { view.bad() } else { Style::new() };
                // Names of threads have 15 characters in Linux; ours may be numbered.
                let name = one_line(&name, if name.chars().count() > 18 { 17 } else { 18 });
                let text = format!(" {name:<18} {:>3.0} % {bar}", cpu * 100.0);
                lines.push(Line::styled(text, style));
            }
        }
    }
    frame.render_widget(Paragraph::new(lines), area);
}

// ---------------------------------------------------------------------------------------------------- overlays

const HELP: &str = "\
 1 .. 5, Tab   overview, latency, delivery, errors, machines
 q, Ctrl-C     no more arrivals; users end, results are written
 Q, Ctrl-C     the second time: stop at once, without results
 s             write every tab as text into a file here
 l             what was said so far
 ?             this; Esc closes it

 from due      from the instant a user was due to its first answer: the
               tester's own lateness and every wait are in it
 service       from sending a request to its answer, of all engines
 delivery      from sending a message to a listener hearing it; missing and
               first to last hearer once the message has been judged
 so far        judged by what is known now; the result may differ";

fn help(frame: &mut Frame<'_>, area: Rect) {
    boxed(frame, area, " keys and words ", HELP.lines().map(|line| line.to_owned()).collect(), 74);
}

fn log(frame: &mut Frame<'_>, area: Rect, picture: &Picture) {
    let tall = usize::from(area.height.saturating_sub(4));
    let from = picture.log.len().saturating_sub(tall);
    let mut lines: Vec<String> = picture.log.iter().skip(from).map(|line| format!(" {line}")).collect();
    if lines.is_empty() {
        lines.push(" nothing was said so far".to_owned());
    }
    let width = area.width.saturating_sub(4);
    boxed(frame, area, " log ", lines, width);
}

fn boxed(frame: &mut Frame<'_>, area: Rect, title: &str, lines: Vec<String>, width: u16) {
    let width = width.min(area.width);
    let height = (lines.len() as u16 + 2).min(area.height);
    let place =
        Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    frame.render_widget(Clear, place);
    let lines: Vec<Line<'_>> = lines.into_iter().map(Line::raw).collect();
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(title.to_owned())), place);
}
