//! From the merged tree to the [`Script`]: every key looked at, every value checked, all problems collected.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::compat::{self, Section, Support};
use super::duration::shown;
use super::model::*;
use super::payload::{self, CsvOptions};
use super::template::{Reference, Template, text_of};
use super::vars::Vars;
use super::yaml::{Kind, Node, Place};
use super::{LoadOptions, Problem, duration, model};
use crate::capture::{JsonPath, regexp};
use crate::plan;
use crate::sources::Sources;

mod audience;
mod config;
mod emit;
mod monitor;
mod request;
mod scenario;
mod socket;

/// A text the script came from.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

pub(super) struct Reader<'a> {
    pub(super) sources: &'a [Source],
    pub(super) options: &'a LoadOptions,
    /// What `config` itself may refer to.
    pub(super) early: Vars,
    /// False: CSV files are not opened (fuzzing, scripts out of a string).
    pub(super) files: bool,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Warning>,
    /// Names that steps set.
    set: BTreeSet<String>,
    references: Vec<(Place, Reference, Seen)>,
    seen: Seen,
    strict_capture: bool,
    engine: Engine,
}

/// Who fills a template: users, or the listeners of a group, who have other rows.
#[derive(Debug, Clone, PartialEq)]
enum Seen {
    ByUsers,
    ByListeners(Vec<String>),
}

/// What [`Reader::read`] yields; the rest of a [`Script`] comes from outside the tree.
pub(super) struct Read {
    pub(super) config: Config,
    pub(super) scenarios: Vec<Scenario>,
    pub(super) before: Option<Scenario>,
    pub(super) after: Option<Scenario>,
}

const VERBS: [&str; 7] = ["get", "post", "put", "patch", "delete", "head", "options"];
const OTHER_ACTIONS: [&str; 14] = [
    "emit",
    "send",
    "think",
    "log",
    "loop",
    "function",
    "parallel",
    "connect",
    "wait",
    "whileTrue",
    "listen",
    "disconnect",
    "reconnect",
    "read",
];
const MAX_LISTENERS: u64 = 1_000_000;
const MAX_STEPS_DEPTH: usize = 32;

impl<'a> Reader<'a> {
    pub(super) fn new(sources: &'a [Source], options: &'a LoadOptions, early: Vars, files: bool) -> Self {
        Self {
            sources,
            options,
            early,
            files,
            problems: Vec::new(),
            warnings: Vec::new(),
            set: BTreeSet::new(),
            references: Vec::new(),
            seen: Seen::ByUsers,
            strict_capture: true,
            engine: Engine::Http,
        }
    }

    pub(super) fn error(
        &mut self,
        place: Place,
        message: impl Into<String>,
        help: impl Into<Option<String>>,
    ) {
        let problem = problem(self.sources, place, message.into(), help.into());
        if self.problems.len() < 100 && !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    pub(super) fn warn(&mut self, place: Place, message: impl Into<String>) {
        let warning = Warning {
            path: self.sources.get(place.source as usize).map(|s| s.path.clone()).unwrap_or_default(),
            line: place.line as usize,
            column: place.column as usize,
            message: clipped(message.into()),
        };
        if self.warnings.len() < 1000 && !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Reads the whole document. What could not be read is among the problems.
    pub(super) fn read(&mut self, root: &Node, variables: Vec<(String, Vec<Value>)>) -> Option<Read> {
        if !matches!(root.kind, Kind::Map(_)) {
            self.error(
                root.place,
                format!("a script is a mapping with `config` and `scenarios`, not {}", root.noun()),
                None,
            );
            return None;
        }
        self.check_keys(root, Section::Document);
        let empty = Node { place: root.place, kind: Kind::Map(Vec::new()) };
        let config_node = root.get("config").filter(|node| !node.is_null()).unwrap_or(&empty);
        let mut config = self.config(config_node, root.place, variables)?;

        let scenario_nodes = match root.get("scenarios").filter(|node| !node.is_null()) {
            Some(node) => node,
            None => {
                self.error(
                    root.place,
                    "there are no `scenarios`",
                    "add `scenarios:` with at least one `flow:`".to_owned(),
                );
                return None;
            }
        };
        let mut scenarios = Vec::new();
        let mut handshakes: Vec<&Node> = Vec::new();
        for (index, node) in list_of(scenario_nodes).iter().enumerate() {
            handshakes.extend(node.get("socketio").filter(|node| !node.is_null()));
            scenarios.extend(self.scenario(node, &index.to_string(), Section::Scenario));
        }
        if list_of(scenario_nodes).is_empty() {
            self.error(scenario_nodes.place, "`scenarios` is empty", None);
        }
        if let Some((first, others)) = handshakes.split_first() {
            if others.iter().any(|other| other.to_value() != first.to_value())
                || scenarios.len() > handshakes.len()
            {
                self.warn(
                    first.place,
                    "scenarios share one `socketio` block, as in Artillery: the last one given counts for all",
                );
            }
            for node in handshakes {
                self.socketio(node, &mut config);
            }
        }
        let mut hook = |key: &str| {
            let node = root.get(key).filter(|node| !node.is_null())?;
            self.scenario(node, key, Section::Before)
        };
        let (before, after) = (hook("before"), hook("after"));

        if let Some(wanted) = &self.options.scenario_name {
            let wanted = wanted.clone();
            self.choose(&mut scenarios, &wanted, scenario_nodes.place);
        } else if scenarios.iter().all(|scenario| scenario.weight == 0) && !scenarios.is_empty() {
            self.error(scenario_nodes.place, "every scenario has weight 0, so none could be chosen", None);
        }
        self.check_references(&config);
        Some(Read { config, scenarios, before, after })
    }

    /// `config.variables`, each with the values one is picked from. They may refer to what stands before them.
    pub(super) fn variables(&mut self, node: Option<&Node>) -> Vec<(String, Vec<Value>)> {
        let mut variables = Vec::new();
        let Some(node) = node.filter(|node| !node.is_null()) else { return variables };
        if !self.is_map(node, "`variables`") {
            return variables;
        }
        let mut rng = fastrand::Rng::with_seed(self.options.seed.unwrap_or(0));
        for (key, value) in node.entries() {
            let mut values = Vec::new();
            for item in list_of(value) {
                let Some(template) = self.template(item) else { continue };
                for reference in template.references() {
                    if self.early.get(&reference.root).is_none() && self.early.get(&reference.path).is_none()
                    {
                        let name = &reference.path;
                        self.warn(
                            item.place,
                            format!("`{name}` is not known when `variables` are read: put `{{{{ {name} }}}}` where it is used"),
                        );
                        self.references.retain(|(place, ..)| *place != item.place);
                    }
                }
                values.push(template.render(&self.early, &mut rng));
            }
            if matches!(&value.kind, Kind::List(items) if items.is_empty()) {
                self.error(
                    value.place,
                    format!("`{}` is an empty list: one element is picked for each user", key.name),
                    None,
                );
            }
            if let [value] = &values[..] {
                self.early.set(key.name.as_str(), value.clone());
            }
            variables.push((key.name.clone(), values));
        }
        variables
    }

    /// Unknown keys warn, ignored ones say why, refused ones are problems.
    fn check_keys(&mut self, node: &Node, section: Section) {
        for (key, _) in node.entries() {
            match compat::find(section, &key.name) {
                None => {
                    // An anchor's shelf: `x-...` keys are for YAML's own use.
                    if !key.name.starts_with("x-") {
                        self.unknown_key(key.place, &key.name, compat::keys(section).map(|entry| entry.key));
                    }
                }
                Some(entry) if entry.support == Support::Refused => {
                    self.error(
                        key.place,
                        format!("`{}` is not supported here", key.name),
                        entry.ruling.to_owned(),
                    );
                }
                Some(entry) if entry.support == Support::Ignored => {
                    self.ignored(section, entry.key, key.place);
                }
                Some(_) => {}
            }
        }
    }

    fn ignored(&mut self, section: Section, key: &str, place: Place) {
        let ruling = compat::find(section, key).map_or("", |entry| entry.ruling);
        self.warn(place, format!("`{key}` is ignored: {ruling}"));
    }

    fn unknown_key<'w>(&mut self, place: Place, key: &str, known: impl IntoIterator<Item = &'w str>) {
        let near = compat::suggestion(key, known);
        let meant = near.map_or(String::new(), |near| format!(": did you mean `{near}`?"));
        self.warn(place, format!("`{key}` is not known and ignored{meant}"));
    }

    fn is_map(&mut self, node: &Node, what: &str) -> bool {
        let is_map = matches!(node.kind, Kind::Map(_));
        if !is_map {
            self.error(node.place, format!("{what} must be a mapping, not {}", node.noun()), None);
        }
        is_map
    }

    /// A template of any shape; its strings are checked where they stand.
    fn template(&mut self, node: &Node) -> Option<Template> {
        let problems = self.problems.len();
        self.check_strings(node);
        if self.problems.len() > problems {
            return None;
        }
        match Template::new(&node.to_value()) {
            Ok(template) => Some(template),
            Err(error) => {
                self.error(node.place, error.to_string(), None);
                None
            }
        }
    }

    fn check_strings(&mut self, node: &Node) {
        match &node.kind {
            Kind::Scalar(Value::String(text)) => {
                if text.contains("{{") {
                    self.text_at(text, node.place);
                }
            }
            Kind::Scalar(_) => {}
            Kind::List(items) => items.iter().for_each(|item| self.check_strings(item)),
            Kind::Map(entries) => {
                for (key, value) in entries {
                    if key.name.contains("{{") {
                        self.text_at(&key.name, key.place);
                    }
                    self.check_strings(value);
                }
            }
        }
    }

    fn text_at(&mut self, text: &str, place: Place) -> Option<Template> {
        match Template::text(text) {
            Ok(template) => {
                let references = template.references();
                let odd = references.is_empty()
                    && template.is_constant()
                    && text.contains("{{")
                    && text.contains("}}");
                if odd {
                    self.warn(
                        place,
                        format!("`{}` is no template expression and stays as it is", text.trim()),
                    );
                }
                for reference in references {
                    self.reference(place, reference);
                }
                Some(template)
            }
            Err(error) => {
                self.error(place, error.to_string(), None);
                None
            }
        }
    }

    fn template_map(&mut self, node: &Node, what: &str) -> Vec<(String, Template)> {
        if !self.is_map(node, what) {
            return Vec::new();
        }
        let mut pairs = Vec::new();
        for (key, value) in node.entries() {
            if let Some(template) = self.template(value) {
                pairs.push((key.name.clone(), template));
            }
        }
        pairs
    }

    /// The same, of headers: names and fixed values that no request can carry are refused here, not by each user.
    fn headers(&mut self, node: &Node, what: &str) -> Vec<(String, Template)> {
        if self.is_map(node, what) {
            for (key, value) in node.entries() {
                if http::HeaderName::from_bytes(key.name.as_bytes()).is_err() {
                    self.error(key.place, format!("`{}` is no name of a header", key.name), None);
                }
                if value.as_str().is_some_and(|text| http::HeaderValue::from_str(text).is_err()) {
                    self.error(
                        value.place,
                        format!("the value of `{}` is not one line of text", key.name),
                        None,
                    );
                }
            }
        }
        self.template_map(node, what)
    }

    fn reference(&mut self, place: Place, reference: Reference) {
        if reference.root == "$testId" {
            self.error(place, "`$testId` is not known to templates", None);
        }
        self.references.push((place, reference, self.seen.clone()));
    }

    /// Every name a template asks for must be set somewhere.
    fn check_references(&mut self, config: &Config) {
        let built_in = [
            "target",
            "$environment",
            "$processEnvironment",
            "$env",
            "$dirname",
            "$scenarioFile",
            "$uuid",
            "$loopCount",
            "$loopElement",
            "$testId",
        ];
        let everywhere: BTreeSet<String> = built_in
            .into_iter()
            .map(str::to_owned)
            .chain(config.variables.iter().map(|(name, _)| name.clone()))
            .chain(config.payloads.iter().filter_map(|payload| payload.load_all_as.clone()))
            .chain(self.set.iter().cloned())
            .collect();
        let rows: Vec<String> = config
            .payloads
            .iter()
            .filter(|payload| payload.load_all_as.is_none())
            .flat_map(|payload| payload.fields.clone())
            .collect();
        for (place, reference, seen) in std::mem::take(&mut self.references) {
            let own = match &seen {
                Seen::ByUsers => &rows,
                Seen::ByListeners(names) => names,
            };
            let known = |name: &String| everywhere.contains(name) || own.contains(name);
            if known(&reference.root) || known(&reference.path) {
                self.check_environment(place, &reference);
                continue;
            }
            let near = compat::suggestion(&reference.root, everywhere.iter().chain(own).map(String::as_str));
            let name = &reference.root;
            let message = if let Some(near) = near {
                format!("nothing sets `{name}`: did you mean `{near}`?")
            } else if seen != Seen::ByUsers && rows.contains(name) {
                format!(
                    "nothing sets `{name}` for listeners: rows of `config.payload` go to users, give the group its own `payload`"
                )
            } else {
                format!("nothing sets `{name}`: it becomes `undefined` in text and is left out of data")
            };
            self.warn(place, message);
        }
    }

    fn check_environment(&mut self, place: Place, reference: &Reference) {
        let name =
            ["$processEnvironment.", "$env."].iter().find_map(|root| reference.path.strip_prefix(root));
        let Some(name) = name.filter(|name| !name.contains(['.', '['])) else { return };
        if self.early.get("$env").is_some_and(|all| all.get(name).is_none()) {
            self.warn(place, format!("the environment has no `{name}`: it becomes `undefined`"));
        }
    }

    /// A scalar of `config`, its templates filled now.
    fn early(&mut self, node: &Node, what: &str) -> Option<Value> {
        let Kind::Scalar(value) = &node.kind else {
            self.error(node.place, format!("{what} must be a single value, not {}", node.noun()), None);
            return None;
        };
        let Value::String(text) = value else { return Some(value.clone()) };
        if !text.contains("{{") {
            return Some(value.clone());
        }
        let template = match Template::text(text) {
            Ok(template) => template,
            Err(error) => {
                self.error(node.place, error.to_string(), None);
                return None;
            }
        };
        for reference in template.references() {
            if self.early.get(&reference.root).is_none() && self.early.get(&reference.path).is_none() {
                self.error(
                    node.place,
                    format!("`{}` is not known when {what} is read", reference.path),
                    "here only `variables`, `-v` and the environment count".to_owned(),
                );
                return None;
            }
        }
        Some(template.render(&self.early, &mut fastrand::Rng::with_seed(self.options.seed.unwrap_or(0))))
    }

    fn early_text(&mut self, node: &Node, what: &str) -> Option<String> {
        let value = self.early(node, what)?;
        if value.is_null() {
            self.error(node.place, format!("{what} is empty"), None);
            return None;
        }
        Some(text_of(&value).into_owned())
    }

    fn number(&mut self, node: &Node, what: &str) -> Option<f64> {
        let value = self.early(node, what)?;
        let number = match &value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let number = number.filter(|number: &f64| number.is_finite());
        if number.is_none() {
            let shown = text_of(&value);
            self.error(node.place, format!("{what} must be a number, not `{shown}`"), None);
        }
        number
    }

    fn whole(&mut self, node: &Node, what: &str) -> Option<u64> {
        let number = self.number(node, what)?;
        if number < 0.0 || number.fract() != 0.0 || number > 1e15 {
            self.error(node.place, format!("{what} must be a whole number, not {number}"), None);
            return None;
        }
        Some(number as u64)
    }

    fn opt_whole(&mut self, node: &Node, key: &str) -> Option<u64> {
        let node = node.get(key).filter(|node| !node.is_null())?;
        self.whole(node, &format!("`{key}`"))
    }

    fn opt_bool(&mut self, node: &Node, key: &str) -> Option<bool> {
        let node = node.get(key).filter(|node| !node.is_null())?;
        match self.early(node, &format!("`{key}`"))? {
            Value::Bool(value) => Some(value),
            Value::String(text) if text == "true" => Some(true),
            Value::String(text) if text == "false" => Some(false),
            _ => {
                self.error(node.place, format!("`{key}` is `true` or `false`"), None);
                None
            }
        }
    }

    fn duration(&mut self, node: &Node, what: &str) -> Option<Duration> {
        let value = self.early(node, what)?;
        match duration::from_value(&value) {
            Ok(duration) => Some(duration),
            Err(error) => {
                let shown = text_of(&value).into_owned();
                let message = format!("{what}: `{shown}` {error}");
                let (message, help) = match message.split_once(": write ") {
                    Some((message, help)) => (message.to_owned(), Some(format!("write {help}"))),
                    None => (message, None),
                };
                self.error(node.place, message, help);
                None
            }
        }
    }
}

/// The items of a list, or the one thing that stands in a list's place.
fn list_of(node: &Node) -> &[Node] {
    match &node.kind {
        Kind::List(items) => items,
        _ => std::slice::from_ref(node),
    }
}

/// Messages quote the script, and a script may hold megabytes in one value.
fn clipped(text: String) -> String {
    const MOST: usize = 300;
    if text.chars().count() <= MOST {
        return text;
    }
    let (start, end): (String, String) =
        (text.chars().take(MOST / 2).collect(), text.chars().skip(text.chars().count() - MOST / 2).collect());
    format!("{start}...{end}")
}

/// A problem with its source line.
pub(super) fn problem(sources: &[Source], place: Place, message: String, help: Option<String>) -> Problem {
    let source = sources.get(place.source as usize);
    let known = place.line > 0;
    let text = source.filter(|_| known).and_then(|source| source.text.lines().nth(place.line as usize - 1));
    Problem {
        path: source.map(|source| source.path.clone()).unwrap_or_default(),
        line: if text.is_some() { place.line as usize } else { 0 },
        column: place.column as usize,
        width: place.width as usize,
        source: text.unwrap_or_default().to_owned(),
        message,
        help,
    }
}
