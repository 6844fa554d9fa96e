//! From the merged tree to the [`Script`]: every key looked at, every value checked, all problems collected.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::compat::{self, Section, Support};
use super::model::*;
use super::payload::{self, CsvOptions};
use super::template::{Reference, Template};
use super::vars::Vars;
use super::yaml::{Kind, Node, Place};
use super::{LoadOptions, Problem, duration};
use crate::capture::JsonPath;
use crate::plan;

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
const OTHER_ACTIONS: [&str; 10] =
    ["emit", "send", "think", "log", "loop", "function", "parallel", "connect", "wait", "whileTrue"];
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

        let in_use = |engine| {
            scenarios.iter().chain(&before).chain(&after).any(|scenario| scenario.engine == engine)
                || (engine == Engine::SocketIo && !config.listeners.is_empty())
        };
        if in_use(Engine::SocketIo) && config.socketio.transports == [Transport::Polling] {
            let place =
                config_node.get("socketio").and_then(|s| s.get("transports")).map_or(root.place, |t| t.place);
            self.error(
                place,
                "drumfire does not speak long polling yet",
                "write `transports: [websocket]`".to_owned(),
            );
        }
        config.socketio.transports = vec![Transport::WebSocket];
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
            let values: Vec<Value> = list_of(value)
                .iter()
                .filter_map(|item| Some(self.template(item)?.render(&self.early, &mut rng)))
                .collect();
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

    // -- config

    fn config(&mut self, node: &Node, root: Place, variables: Vec<(String, Vec<Value>)>) -> Option<Config> {
        if !self.is_map(node, "`config`") {
            return None;
        }
        self.check_keys(node, Section::Config);
        let get = |key: &str| node.get(key).filter(|value| !value.is_null());

        let target = self.target(get("target"), root);
        let engine = get("engine").and_then(|node| self.engine_name(node));
        self.engine = engine.unwrap_or(Engine::Http);

        let mut http = HttpConfig { strict_capture: true, ..HttpConfig::default() };
        let mut think_jitter = None;
        let mut tls_verify = !self.options.insecure;
        let inner = get("http").filter(|node| self.is_map(node, "`http`"));
        if let Some(node) = inner {
            self.check_keys(node, Section::Http);
            http.pool = self.opt_whole(node, "pool").map(|pool| pool.max(1) as usize);
        }
        // `http.defaults` lies over `defaults`.
        for defaults in [get("defaults"), inner.and_then(|http| http.get("defaults"))].into_iter().flatten() {
            if !self.is_map(defaults, "`defaults`") {
                continue;
            }
            self.check_keys(defaults, Section::Defaults);
            if let Some(headers) = defaults.get("headers") {
                http.headers = self.template_map(headers, "`headers`");
            }
            if let Some(cookies) = defaults.get("cookie") {
                http.cookies = self.template_map(cookies, "`cookie`");
            }
            if let Some(strict) = self.opt_bool(defaults, "strictCapture") {
                http.strict_capture = strict;
            }
            if let Some(think) = defaults.get("think").filter(|node| self.is_map(node, "`think`")) {
                self.check_keys(think, Section::DefaultsThink);
                think_jitter = think.get("jitter").and_then(|node| self.jitter(node));
            }
        }
        self.strict_capture = http.strict_capture;

        if let Some(tls) = get("tls").filter(|node| self.is_map(node, "`tls`")) {
            self.check_keys(tls, Section::Tls);
            tls_verify &= self.opt_bool(tls, "rejectUnauthorized").unwrap_or(true);
        }
        let ws = get("ws").filter(|node| self.is_map(node, "`ws`"));
        if let Some(ws) = ws {
            self.check_keys(ws, Section::Ws);
            tls_verify &= self.opt_bool(ws, "rejectUnauthorized").unwrap_or(true);
        }

        let timeout = [Some(node), inner, ws]
            .into_iter()
            .flatten()
            .find_map(|node| node.get("timeout"))
            .and_then(|node| self.duration(node, "`timeout`"));
        let stats_interval = get("statsInterval").and_then(|node| self.duration(node, "`statsInterval`"));

        if let Some(plugins) = get("plugins").filter(|node| self.is_map(node, "`plugins`")) {
            for (key, _) in plugins.entries() {
                match compat::find(Section::Plugins, &key.name) {
                    Some(entry) if entry.support == Support::Ignored => {
                        self.warn(
                            key.place,
                            format!("the plugin `{}` is ignored: {}", key.name, entry.ruling),
                        );
                    }
                    Some(_) => {}
                    None => {
                        self.warn(key.place, format!("the plugin `{}` is not known and ignored", key.name))
                    }
                }
            }
        }
        let ensure = get("ensure")
            .or_else(|| get("plugins")?.get("ensure").filter(|node| !node.entries().is_empty()))
            .and_then(|node| self.ensure(node));

        let phases = self.phases(node);
        let mut config = Config {
            target,
            environment: self.options.environment.clone(),
            phases,
            variables,
            payloads: Vec::new(),
            timeout: timeout.filter(|timeout| !timeout.is_zero()).unwrap_or(Duration::from_secs(10)),
            http,
            tls_verify,
            socketio: SocketIoConfig {
                transports: vec![Transport::WebSocket],
                path: "/socket.io/".into(),
                query: Vec::new(),
                extra_headers: Vec::new(),
                auth: None,
                revision: None,
            },
            think_jitter,
            listeners: Vec::new(),
            delivery: None,
            ensure,
            seed: self.options.seed.unwrap_or(0),
            stats_interval: stats_interval
                .filter(|interval| *interval >= Duration::from_secs(1))
                .unwrap_or(Duration::from_secs(10)),
        };
        if let Some(engines) = get("engines").filter(|node| self.is_map(node, "`engines`")) {
            for (key, node) in engines.entries() {
                match key.name.as_str() {
                    "socketio" | "socketio-v3" if !node.is_null() => self.socketio(node, &mut config),
                    "socketio" | "socketio-v3" => {}
                    "http" | "ws" => self.ignored(Section::Engines, &key.name, key.place),
                    name => self.warn(
                        key.place,
                        format!("the engine `{name}` is not known and its options are ignored"),
                    ),
                }
            }
        }
        if let Some(node) = get("socketio") {
            self.socketio(node, &mut config);
        }
        config.payloads = self.payloads(node.get("payload"), true);
        if let Some(node) = get("listeners") {
            for (index, group) in list_of(node).iter().enumerate() {
                config.listeners.extend(self.listener_group(group, index));
            }
        }
        if let Some(node) = get("delivery") {
            config.delivery = self.delivery(node, &config.listeners);
        }
        Some(config)
    }

    fn target(&mut self, node: Option<&Node>, root: Place) -> String {
        let (text, place) = match (&self.options.target, node) {
            (Some(target), _) => (target.clone(), Place::default()),
            (None, Some(node)) => (self.early_text(node, "`target`").unwrap_or_default(), node.place),
            (None, None) => {
                self.error(
                    root,
                    "there is no target",
                    "add `target: http://localhost:9013` under `config`, or give it with `-t`".to_owned(),
                );
                return String::new();
            }
        };
        match url::Url::parse(&text) {
            Ok(url) if matches!(url.scheme(), "http" | "https" | "ws" | "wss") && url.has_host() => {}
            _ if text.is_empty() => {}
            _ => {
                let help = if text.contains("://") {
                    "a target begins with http://, https://, ws:// or wss:// and names a host".to_owned()
                } else {
                    format!("perhaps `http://{text}`")
                };
                self.error(place, format!("`{text}` is no target"), help);
            }
        }
        text.trim_end_matches('/').to_owned()
    }

    fn phases(&mut self, config: &Node) -> Vec<Phase> {
        let one = |name: &str| Phase {
            name: Some(name.to_owned()),
            kind: PhaseKind::Count { duration: Duration::from_secs(1), count: 1 },
            max_vusers: None,
        };
        let mode = config.get("mode").filter(|node| !node.is_null());
        let poisson = mode.is_some_and(|node| self.is_poisson(node));
        let given = config.get("phases").filter(|node| !node.is_null());
        if self.options.solo {
            return vec![one("solo")];
        }
        let Some(node) = given else {
            self.warn(config.place, "there are no `phases`: one user runs, as in Artillery 2");
            return vec![one("one user")];
        };
        let mut phases = Vec::new();
        for node in list_of(node) {
            phases.extend(self.phase(node, poisson));
        }
        if list_of(node).is_empty() {
            self.warn(node.place, "`phases` is empty: one user runs, as in Artillery 2");
            phases.push(one("one user"));
        }
        let total: u64 = phases.iter().map(plan::expected_arrivals).fold(0, u64::saturating_add);
        if total > plan::MAX_ARRIVALS {
            self.error(node.place, format!("{total} users in all is more than {}", plan::MAX_ARRIVALS), None);
        }
        let drawn = |phase: &&Phase| {
            matches!(
                phase.kind,
                PhaseKind::Rate { poisson: true, .. } | PhaseKind::Ramp { poisson: true, .. }
            )
        };
        let drawn: u64 =
            phases.iter().filter(drawn).map(plan::expected_arrivals).fold(0, u64::saturating_add);
        if drawn > plan::MAX_POISSON_ARRIVALS {
            let limit = plan::MAX_POISSON_ARRIVALS;
            self.error(node.place, format!("{drawn} users in poisson phases is more than {limit}"), None);
        }
        phases
    }

    fn is_poisson(&mut self, node: &Node) -> bool {
        match self.early_text(node, "`mode`").as_deref() {
            Some("poisson") => true,
            Some("uniform") | None => false,
            Some(other) => {
                let message = format!("`{other}` is no mode");
                self.error(node.place, message, "modes are `uniform` and `poisson`".to_owned());
                false
            }
        }
    }

    fn phase(&mut self, node: &Node, poisson: bool) -> Option<Phase> {
        if !self.is_map(node, "a phase") {
            return None;
        }
        self.check_keys(node, Section::Phase);
        let problems = self.problems.len();
        let poisson = match node.get("mode").filter(|mode| !mode.is_null()) {
            Some(mode) => self.is_poisson(mode),
            None => poisson,
        };
        let name = node.get("name").and_then(|name| self.early_text(name, "`name`"));
        let max_vusers = self.opt_whole(node, "maxVusers");
        let get = |key: &str| node.get(key).filter(|value| !value.is_null());
        let kind = if let Some(pause) = get("pause") {
            PhaseKind::Pause { duration: self.duration(pause, "`pause`")? }
        } else {
            let Some(duration_node) = get("duration") else {
                self.error(
                    node.place,
                    "this phase has no `duration`",
                    "add `duration: 30` (seconds)".to_owned(),
                );
                return None;
            };
            let duration = self.duration(duration_node, "`duration`")?;
            let count = get("arrivalCount");
            let rate = get("arrivalRate").map(|node| (node, self.rate(node, "`arrivalRate`")));
            let ramp = get("rampTo").map(|node| (node, self.rate(node, "`rampTo`")));
            if let Some(count) = count {
                if let Some((node, _)) = rate.or(ramp) {
                    self.warn(node.place, "ignored: `arrivalCount` goes first");
                }
                let count = self.whole(count, "`arrivalCount`")?;
                PhaseKind::Count { duration, count }
            } else {
                if duration.is_zero() {
                    self.error(duration_node.place, "a phase of no duration has no rate", None);
                    return None;
                }
                match (rate, ramp) {
                    (Some((_, rate)), None) if rate? == 0.0 => PhaseKind::Pause { duration },
                    (Some((_, rate)), None) => PhaseKind::Rate { duration, rate: rate?, poisson },
                    (from, Some((_, to))) => {
                        let from = from.map_or(Some(0.0), |(_, from)| from)?;
                        PhaseKind::Ramp { duration, from, to: to?, poisson }
                    }
                    (None, None) => {
                        self.error(
                            node.place,
                            "this phase says no load",
                            "add `arrivalRate` (users a second), `arrivalCount` (users in all) or `rampTo`"
                                .to_owned(),
                        );
                        return None;
                    }
                }
            }
        };
        let phase = Phase { name, kind, max_vusers };
        let pause = matches!(phase.kind, PhaseKind::Pause { .. });
        if !pause && plan::expected_arrivals(&phase) == 0 && self.problems.len() == problems {
            self.warn(node.place, "nobody arrives in this phase: it ends before the first whole user");
        }
        Some(phase)
    }

    fn rate(&mut self, node: &Node, what: &str) -> Option<f64> {
        let rate = self.number(node, what)?;
        if !(0.0..=1e8).contains(&rate) {
            self.error(node.place, format!("{what} must lie between 0 and 100000000"), None);
            return None;
        }
        Some(rate)
    }

    fn payloads(&mut self, node: Option<&Node>, of_config: bool) -> Vec<Payload> {
        let over = self.options.payload.clone().filter(|_| of_config);
        let Some(node) = node.filter(|node| !node.is_null()) else {
            if over.is_some() {
                self.error(
                    Place::default(),
                    "`-p` gives a CSV file, but the script does not name its columns",
                    "add `payload: {fields: [...]}` under `config`".to_owned(),
                );
            }
            return Vec::new();
        };
        let nodes = list_of(node);
        if over.is_some() && nodes.len() > 1 {
            self.error(node.place, "`-p` gives one CSV file, but the script has several", None);
        }
        nodes.iter().filter_map(|node| self.payload(node, over.clone())).collect()
    }

    fn payload(&mut self, node: &Node, over: Option<PathBuf>) -> Option<Payload> {
        if !self.is_map(node, "`payload`") {
            return None;
        }
        self.check_keys(node, Section::Payload);
        let (path, place) = match (over, node.get("path").filter(|path| !path.is_null())) {
            (Some(path), _) => (path, node.place),
            (None, Some(path)) => {
                let text = self.early_text(path, "`path`")?;
                (self.beside(&text, path.place), path.place)
            }
            (None, None) => {
                self.error(node.place, "this payload has no `path`", None);
                return None;
            }
        };
        let fields = match node.get("fields").filter(|fields| !fields.is_null()) {
            Some(fields) => {
                let mut names = Vec::new();
                for field in list_of(fields) {
                    names.push(self.early_text(field, "a field")?);
                }
                names
            }
            None => Vec::new(),
        };
        let load_all = self.opt_bool(node, "loadAll").unwrap_or(false);
        let name = node.get("name").and_then(|name| self.early_text(name, "`name`"));
        let load_all_as = match (load_all, name) {
            (true, Some(name)) => Some(name),
            (true, None) => {
                self.error(node.place, "`loadAll` needs a `name`", "add the variable's `name`".to_owned());
                return None;
            }
            (false, name) => {
                if name.is_some() {
                    self.warn(node.place, "`name` means nothing without `loadAll: true`");
                }
                None
            }
        };
        if fields.is_empty() && load_all_as.is_none() {
            self.error(
                node.place,
                "this payload names no `fields`",
                "add `fields: [column, ...]`".to_owned(),
            );
            return None;
        }
        let order = match node.get("order").filter(|order| !order.is_null()) {
            None => RowOrder::Random,
            Some(order) => match self.early_text(order, "`order`")?.as_str() {
                "random" => RowOrder::Random,
                "sequence" => RowOrder::Sequence,
                other => {
                    let help = "orders are `random` and `sequence`".to_owned();
                    self.error(order.place, format!("`{other}` is no order"), help);
                    return None;
                }
            },
        };
        let delimiter = match node.get("delimiter").filter(|d| !d.is_null()) {
            None => b',',
            Some(delimiter) => match self.early_text(delimiter, "`delimiter`")?.as_bytes() {
                [byte] => *byte,
                b"\\t" => b'\t',
                _ => {
                    self.error(delimiter.place, "a delimiter is one ASCII character", None);
                    return None;
                }
            },
        };
        let options = CsvOptions {
            delimiter,
            skip_header: self.opt_bool(node, "skipHeader").unwrap_or(false),
            cast: self.opt_bool(node, "cast").unwrap_or(true),
            skip_empty_lines: self.opt_bool(node, "skipEmptyLines").unwrap_or(true),
            columns: fields.len(),
        };
        let rows = if self.files {
            match payload::read(&path, &options) {
                Ok(rows) => rows,
                Err(error) => {
                    let unreadable = matches!(error, payload::PayloadError::Unreadable { .. });
                    let shown = match error {
                        payload::PayloadError::Malformed { .. }
                        | payload::PayloadError::TooFewColumns { .. }
                        | payload::PayloadError::Empty => format!("{}: {error}", path.display()),
                        _ => error.to_string(),
                    };
                    let help = unreadable.then(|| "the path is relative to the script".to_owned());
                    self.error(place, shown, help);
                    return None;
                }
            }
        } else {
            Arc::default()
        };
        Some(Payload { path, fields, order, rows, load_all_as })
    }

    /// A path in a script is relative to the (first) script; failing that, to the file it stands in.
    fn beside(&self, path: &str, place: Place) -> PathBuf {
        let beside = |source: Option<&Source>| source.and_then(|s| s.path.parent()).map(|dir| dir.join(path));
        let first = beside(self.sources.first()).unwrap_or_else(|| path.into());
        if self.files && !first.exists() {
            if let Some(other) = beside(self.sources.get(place.source as usize)).filter(|path| path.exists())
            {
                return other;
            }
        }
        first
    }

    fn socketio(&mut self, node: &Node, config: &mut Config) {
        if !self.is_map(node, "`socketio`") {
            return;
        }
        self.check_keys(node, Section::SocketIo);
        let get = |key: &str| node.get(key).filter(|value| !value.is_null());
        if let Some(transports) = get("transports") {
            let mut list = Vec::new();
            for item in list_of(transports) {
                match self.early_text(item, "a transport").as_deref() {
                    Some("websocket") => list.push(Transport::WebSocket),
                    Some("polling") => list.push(Transport::Polling),
                    Some(other) => {
                        let message = format!("`{other}` is no transport");
                        self.error(
                            item.place,
                            message,
                            "transports are `websocket` and `polling`".to_owned(),
                        );
                    }
                    None => {}
                }
            }
            if list.first() == Some(&Transport::Polling) && list.contains(&Transport::WebSocket) {
                self.warn(
                    transports.place,
                    "users connect by WebSocket at once; Artillery would begin with long polling and then upgrade",
                );
            }
            if !list.is_empty() {
                config.socketio.transports = list;
            }
        }
        if let Some(path) = get("path").and_then(|path| self.early_text(path, "`path`")) {
            config.socketio.path = if path.starts_with('/') { path } else { format!("/{path}") };
            if !config.socketio.path.ends_with('/') {
                config.socketio.path.push('/');
            }
        }
        if let Some(query) = get("query") {
            config.socketio.query = match query.as_str() {
                Some(text) => {
                    let pairs = url::form_urlencoded::parse(text.trim_start_matches('?').as_bytes());
                    let pairs: Vec<(String, String)> = pairs.into_owned().collect();
                    pairs
                        .into_iter()
                        .filter_map(|(name, value)| Some((name, self.text_at(&value, query.place)?)))
                        .collect()
                }
                None => self.template_map(query, "`query`"),
            };
        }
        if let Some(headers) = get("extraHeaders") {
            config.socketio.extra_headers = self.template_map(headers, "`extraHeaders`");
        }
        if let Some(auth) = get("auth") {
            if self.is_map(auth, "`auth`") {
                config.socketio.auth = self.template(auth);
            }
        }
        if self.opt_bool(node, "rejectUnauthorized") == Some(false) {
            config.tls_verify = false;
        }
        if let Some(protocol) = get("protocol") {
            config.socketio.revision = match self.early_text(protocol, "`protocol`").as_deref() {
                Some("3" | "v3") => Some(EngineRevision::V3),
                Some("4" | "v4") => Some(EngineRevision::V4),
                _ => {
                    self.error(
                        protocol.place,
                        "`protocol` is the Engine.IO revision, 3 or 4",
                        "3 for socket.io 2.x servers, 4 for later ones; leave it out to have it found"
                            .to_owned(),
                    );
                    None
                }
            };
        }
    }

    fn ensure(&mut self, node: &Node) -> Option<Ensure> {
        if !self.is_map(node, "`ensure`") {
            return None;
        }
        self.check_keys(node, Section::Ensure);
        let mut ensure = Ensure::default();
        for (key, value) in node.entries() {
            match key.name.as_str() {
                "thresholds" => {
                    for item in list_of(value) {
                        if !self.is_map(item, "a threshold") {
                            continue;
                        }
                        for (metric, limit) in item.entries() {
                            if let Some(limit) = self.number(limit, "a threshold") {
                                ensure.thresholds.insert(metric.name.clone(), limit);
                            }
                        }
                    }
                }
                "conditions" => {
                    for item in list_of(value) {
                        if !self.is_map(item, "a condition") {
                            continue;
                        }
                        self.check_keys(item, Section::Condition);
                        match item.get("expression").and_then(Node::as_str) {
                            Some(expression) => {
                                let strict = self.opt_bool(item, "strict").unwrap_or(true);
                                ensure.conditions.push((expression.to_owned(), strict));
                            }
                            None => self.error(item.place, "this condition has no `expression`", None),
                        }
                    }
                }
                "maxErrorRate" => ensure.max_error_rate = self.number(value, "`maxErrorRate`"),
                name if compat::find(Section::Ensure, name).is_some() => {
                    if let Some(limit) = self.number(value, &format!("`{name}`")) {
                        ensure.thresholds.insert(name.to_owned(), limit);
                    }
                }
                _ => {}
            }
        }
        Some(ensure)
    }

    // -- listeners and delivery

    fn listener_group(&mut self, node: &Node, index: usize) -> Option<ListenerGroup> {
        if !self.is_map(node, "a group of listeners") {
            return None;
        }
        self.check_keys(node, Section::Listener);
        let name = node.get("name").and_then(|name| self.early_text(name, "`name`"));
        let Some(count_node) = node.get("count").filter(|count| !count.is_null()) else {
            self.error(node.place, "this group of listeners has no `count`", None);
            return None;
        };
        let count = self.whole(count_node, "`count`")?;
        if count > MAX_LISTENERS {
            self.error(count_node.place, format!("more than {MAX_LISTENERS} listeners in one group"), None);
            return None;
        }
        let place = match node.get("place").filter(|place| !place.is_null()) {
            Some(place) => Some(self.listener_place(place)?),
            None => None,
        };
        let payloads = self.payloads(node.get("payload"), false);
        let mut names: Vec<String> =
            payloads.iter().flat_map(|p| p.fields.iter().chain(&p.load_all_as)).cloned().collect();
        if place.is_some() {
            names.extend(["lng", "lat", "radius"].map(str::to_owned));
        }
        for payload in payloads.iter().filter(|payload| payload.order == RowOrder::Sequence) {
            if self.files && payload.rows.len() < count as usize {
                self.warn(
                    count_node.place,
                    format!(
                        "{count} listeners share {} rows of {}: rows repeat",
                        payload.rows.len(),
                        payload.path.display()
                    ),
                );
            }
        }
        let seen = std::mem::replace(&mut self.seen, Seen::ByListeners(names));
        let flow = match node.get("flow") {
            Some(flow) => self.flow(flow, Engine::SocketIo, 0),
            None => Vec::new(),
        };
        let moving = node.get("moving").filter(|moving| !moving.is_null());
        let moving = moving.and_then(|moving| self.moving(moving, place.is_some()));
        self.seen = seen;
        let name = name.or_else(|| (index > 0).then(|| index.to_string()));
        Some(ListenerGroup { name, count: count as usize, place, payloads, flow, moving })
    }

    fn listener_place(&mut self, node: &Node) -> Option<super::model::Place> {
        if !self.is_map(node, "`place`") {
            return None;
        }
        self.check_keys(node, Section::ListenerPlace);
        let wanted = |reader: &mut Self, key: &str| {
            let found = node.get(key).filter(|value| !value.is_null());
            if found.is_none() {
                reader.error(node.place, format!("this place has no `{key}`"), None);
            }
            found
        };
        let around = wanted(self, "around")?;
        let [lng, lat] = list_of(around) else {
            self.error(around.place, "`around` is `[longitude, latitude]`", None);
            return None;
        };
        let (lng, lat) = (self.number(lng, "a longitude")?, self.number(lat, "a latitude")?);
        if !(-180.0..=180.0).contains(&lng) || !(-90.0..=90.0).contains(&lat) {
            let swapped = (-90.0..=90.0).contains(&lng) && (-180.0..=180.0).contains(&lat);
            let help = swapped.then(|| format!("longitude comes first: `[{lat}, {lng}]`"));
            self.error(around.place, format!("[{lng}, {lat}] is no place"), help);
            return None;
        }
        let within = wanted(self, "within")?;
        let within_m = self.metres(within, "`within`")?;
        let radius = wanted(self, "radius")?;
        let radius_m = match &radius.kind {
            Kind::List(items) => {
                let [from, to] = &items[..] else {
                    self.error(radius.place, "`radius` is metres or `[from, to]`", None);
                    return None;
                };
                (self.metres(from, "`radius`")?, self.metres(to, "`radius`")?)
            }
            _ => {
                let metres = self.metres(radius, "`radius`")?;
                (metres, metres)
            }
        };
        if radius_m.0 > radius_m.1 {
            self.error(radius.place, "`radius` goes from the smaller to the larger", None);
            return None;
        }
        Some(super::model::Place { lng, lat, within_m, radius_m })
    }

    fn metres(&mut self, node: &Node, what: &str) -> Option<f64> {
        let metres = self.number(node, what)?;
        if !(0.0..=2.1e7).contains(&metres) {
            self.error(node.place, format!("{what} is in metres, from 0 to 21000000"), None);
            return None;
        }
        Some(metres)
    }

    fn moving(&mut self, node: &Node, placed: bool) -> Option<Moving> {
        if !self.is_map(node, "`moving`") {
            return None;
        }
        self.check_keys(node, Section::Moving);
        if !placed {
            self.error(node.place, "only listeners with a `place` can move", None);
        }
        let Some(every_node) = node.get("every") else {
            self.error(node.place, "`moving` needs `every`", "e.g. `every: 2s`".to_owned());
            return None;
        };
        let every = self.duration(every_node, "`every`")?;
        if every < Duration::from_millis(1) {
            self.error(every_node.place, "`every` is at least 1ms", None);
        }
        let step_m = match node.get("step") {
            Some(step) => self.metres(step, "`step`")?,
            None => 50.0,
        };
        let Some(flow) = node.get("flow") else {
            self.error(
                node.place,
                "`moving` needs a `flow`",
                "the steps that tell the server the new place".to_owned(),
            );
            return None;
        };
        let flow = self.flow(flow, Engine::SocketIo, 0);
        Some(Moving { every, flow, step_m })
    }

    fn delivery(&mut self, node: &Node, listeners: &[ListenerGroup]) -> Option<DeliveryConfig> {
        if !self.is_map(node, "`delivery`") {
            return None;
        }
        self.check_keys(node, Section::Delivery);
        let wanted = |reader: &mut Self, key: &str| {
            let text = node.get(key).and_then(|value| reader.early_text(value, &format!("`{key}`")));
            if text.is_none() {
                reader.error(node.place, format!("`delivery` needs `{key}`"), None);
            }
            text
        };
        let (event, stamp, read) = (wanted(self, "event")?, wanted(self, "stamp")?, wanted(self, "read")?);
        let expect_node = node.get("expect").filter(|expect| !expect.is_null());
        let expect = match expect_node {
            None => None,
            Some(expect) => match self.early_text(expect, "`expect`")?.as_str() {
                "circle" => Some(DeliveryExpectation::Circle),
                "all" => Some(DeliveryExpectation::All),
                "none" => Some(DeliveryExpectation::Nobody),
                number => match number.parse() {
                    Ok(number) => Some(DeliveryExpectation::Number(number)),
                    Err(_) => {
                        let help = "write `circle`, `all`, `none` or a number of listeners".to_owned();
                        self.error(expect.place, format!("`{number}` is no expectation"), help);
                        None
                    }
                },
            },
        };
        let path = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
        let mut place = (path("messageData.lng"), path("messageData.lat"));
        if let Some(node) = node.get("place").filter(|place| self.is_map(place, "`place`")) {
            self.check_keys(node, Section::DeliveryPlace);
            if let Some(lng) = node.get("lng").and_then(|lng| self.early_text(lng, "`lng`")) {
                place.0 = path(&lng);
            }
            if let Some(lat) = node.get("lat").and_then(|lat| self.early_text(lat, "`lat`")) {
                place.1 = path(&lat);
            }
        }
        let deadline = match node.get("deadline") {
            Some(deadline) => self.duration(deadline, "`deadline`")?,
            None => Duration::from_secs(10),
        };
        if listeners.is_empty() {
            self.warn(node.place, "`delivery` without `listeners`: nobody is there to hear");
        } else if expect == Some(DeliveryExpectation::Circle)
            && listeners.iter().any(|group| group.place.is_none())
        {
            self.error(
                expect_node.map_or(node.place, |expect| expect.place),
                "`expect: circle` needs to know where every listener stands",
                "give each group of listeners a `place`".to_owned(),
            );
        }
        Some(DeliveryConfig { event, stamp: path(&stamp), read: path(&read), expect, place, deadline })
    }

    // -- scenarios and steps

    fn scenario(&mut self, node: &Node, default_name: &str, section: Section) -> Option<Scenario> {
        if !self.is_map(node, "a scenario") {
            return None;
        }
        self.check_keys(node, section);
        let engine = match node.get("engine").filter(|engine| !engine.is_null()) {
            Some(engine) => self.engine_name(engine)?,
            None => self.engine,
        };
        if engine == Engine::WebSocket {
            let place = node.get("engine").map_or(node.place, |engine| engine.place);
            self.error(
                place,
                "the ws engine is not there yet",
                "drumfire speaks `http` and `socketio`; for plain WebSocket use Artillery meanwhile"
                    .to_owned(),
            );
        }
        let name = node.get("name").and_then(|name| self.early_text(name, "`name`"));
        let weight = match node.get("weight").filter(|weight| !weight.is_null()) {
            None => 1,
            Some(weight) => match self.number(weight, "`weight`") {
                Some(number) if (0.0..=1e6).contains(&number) => number as u32,
                Some(_) => {
                    self.error(weight.place, "`weight` must lie between 0 and 1000000", None);
                    1
                }
                None => 1,
            },
        };
        let flow = match node.get("flow").filter(|flow| !flow.is_null()) {
            Some(flow) => self.flow(flow, engine, 0),
            None => {
                self.error(node.place, "this scenario has no `flow`", None);
                return None;
            }
        };
        Some(Scenario { name: name.unwrap_or_else(|| default_name.to_owned()), weight, engine, flow })
    }

    fn engine_name(&mut self, node: &Node) -> Option<Engine> {
        match self.early_text(node, "`engine`")?.as_str() {
            "http" => Some(Engine::Http),
            "socketio" | "socketio-v3" => Some(Engine::SocketIo),
            "ws" => Some(Engine::WebSocket),
            other => {
                let near = compat::suggestion(other, ["http", "socketio", "socketio-v3", "ws"]);
                let help = match (other, near) {
                    ("websocket", _) => "Artillery calls it `ws`".to_owned(),
                    (_, Some(near)) => format!("did you mean `{near}`?"),
                    _ => "engines are `http`, `socketio` (also `socketio-v3`) and `ws`".to_owned(),
                };
                self.error(node.place, format!("there is no engine `{other}`"), help);
                None
            }
        }
    }

    /// Keeps the one scenario that `--scenario-name` means.
    fn choose(&mut self, scenarios: &mut Vec<Scenario>, wanted: &str, place: Place) {
        let exact = scenarios.iter().filter(|scenario| scenario.name == wanted).count();
        let pattern = regex::RegexBuilder::new(wanted).size_limit(1 << 20).build();
        let fits = |scenario: &Scenario| match (exact, &pattern) {
            (0, Ok(pattern)) => pattern.is_match(&scenario.name),
            _ => scenario.name == wanted,
        };
        let names: Vec<String> = scenarios.iter().map(|scenario| format!("`{}`", scenario.name)).collect();
        let chosen = scenarios.iter().filter(|scenario| fits(scenario)).count();
        if chosen == 1 {
            scenarios.retain(fits);
            scenarios[0].weight = scenarios[0].weight.max(1);
        } else {
            let message = format!("`--scenario-name {wanted}` fits {chosen} scenarios; it must fit one");
            self.error(place, message, format!("there are {}", names.join(", ")));
        }
    }

    fn flow(&mut self, node: &Node, engine: Engine, depth: usize) -> Vec<Step> {
        if depth > MAX_STEPS_DEPTH {
            self.error(node.place, format!("steps are nested deeper than {MAX_STEPS_DEPTH}"), None);
            return Vec::new();
        }
        let Kind::List(items) = &node.kind else {
            let help = "begin each step with `- `".to_owned();
            self.error(node.place, format!("a flow is a list of steps, not {}", node.noun()), help);
            return Vec::new();
        };
        let mut steps = Vec::new();
        for item in items {
            match &item.kind {
                // Lists inside come from YAML anchors.
                Kind::List(_) => steps.extend(self.flow(item, engine, depth + 1)),
                Kind::Map(_) => {
                    if let Some(action) = self.action(item, engine, depth) {
                        steps.push(Step { line: item.place.line as usize, action });
                    }
                }
                Kind::Scalar(_) => {
                    let text = item.as_str().unwrap_or_default().trim_end_matches(':').to_owned();
                    let known = VERBS.contains(&text.as_str()) || OTHER_ACTIONS.contains(&text.as_str());
                    let help = known.then(|| format!("`- {text}:` and its value"));
                    self.error(
                        item.place,
                        format!("a step is a mapping like `think: 1`, not {}", item.noun()),
                        help,
                    );
                }
            }
        }
        steps
    }

    fn action(&mut self, node: &Node, engine: Engine, depth: usize) -> Option<Action> {
        let entries = node.entries();
        let is_action =
            |name: &str| VERBS.contains(&name) || OTHER_ACTIONS.contains(&name) && name != "whileTrue";
        let mut actions = entries.iter().filter(|(key, _)| is_action(&key.name));
        let Some((key, value)) = actions.next() else {
            match entries.iter().find(|(key, _)| compat::find(Section::Step, &key.name).is_none()) {
                Some((key, _)) => {
                    let known = VERBS.into_iter().chain(OTHER_ACTIONS);
                    let help = compat::suggestion(&key.name, known).map_or_else(
                        || "steps are get, post, put, patch, delete, head, options, emit, think, log and loop".to_owned(),
                        |near| format!("did you mean `{near}`?"),
                    );
                    self.error(key.place, format!("there is no step `{}`", key.name), help);
                }
                None => {
                    let place = entries.first().map_or(node.place, |(key, _)| key.place);
                    let name = entries.first().map_or("nothing", |(key, _)| key.name.as_str());
                    match compat::find(Section::Step, name).filter(|entry| entry.support == Support::Refused)
                    {
                        Some(entry) => {
                            self.error(
                                place,
                                format!("`{name}` is not supported here"),
                                entry.ruling.to_owned(),
                            );
                        }
                        None => self.error(
                            place,
                            format!("this step only has `{name}`, which says nothing to do"),
                            None,
                        ),
                    }
                }
            }
            return None;
        };
        if let Some((second, _)) = actions.next() {
            self.error(
                second.place,
                format!("one step does one thing, and this one has `{}` and `{}`", key.name, second.name),
                "begin a step of its own with `- `".to_owned(),
            );
            return None;
        }
        let name = key.name.as_str();
        if let Some(entry) =
            compat::find(Section::Step, name).filter(|entry| entry.support == Support::Refused)
        {
            self.error(key.place, format!("`{name}` is not supported"), entry.ruling.to_owned());
            return None;
        }
        let siblings: &[&str] = match name {
            "emit" => &["namespace", "response", "acknowledge"],
            "think" => &["jitter"],
            "loop" => &["count", "over", "loopValue", "loopElement", "whileTrue"],
            _ => &[],
        };
        let swallowed = value.is_null() && entries.len() > 1;
        for (sibling, _) in entries.iter().filter(|(sibling, _)| sibling.name != name) {
            if swallowed && !siblings.contains(&sibling.name.as_str()) {
                self.error(
                    sibling.place,
                    format!("`{}` stands beside `{name}` and not inside it", sibling.name),
                    format!("indent it further than `{name}`"),
                );
                return None;
            }
            match compat::find(Section::Step, &sibling.name) {
                Some(entry) if entry.support == Support::Refused => {
                    self.error(
                        sibling.place,
                        format!("`{}` is not supported here", sibling.name),
                        entry.ruling.to_owned(),
                    );
                }
                _ if siblings.contains(&sibling.name.as_str()) => {}
                Some(_) => {
                    self.warn(sibling.place, format!("`{}` means nothing beside `{name}`", sibling.name));
                }
                None => self.unknown_key(sibling.place, &sibling.name, siblings.iter().copied()),
            }
        }
        match name {
            "emit" | "send" if engine == Engine::Http => {
                let wanted = if name == "emit" { "socketio" } else { "ws" };
                let help = format!("add `engine: {wanted}` to this scenario");
                self.error(key.place, format!("`{name}` is no step of the http engine"), help);
                None
            }
            "emit" => self.emit(node, value),
            "send" => Some(Action::Send(self.template(value)?)),
            "think" => {
                let jitter = match node.get("jitter") {
                    Some(jitter) => Some(self.jitter(jitter)?),
                    None => None,
                };
                Some(Action::Think { pause: self.think(value)?, jitter })
            }
            "log" => Some(Action::Log(self.template(value)?)),
            "loop" => self.repeat(node, value, engine, depth),
            verb => self.request(verb, value),
        }
    }

    fn think(&mut self, node: &Node) -> Option<Think> {
        if let Some(text) = node.as_str().filter(|text| text.contains("{{")) {
            let template = self.text_at(text, node.place)?;
            if !template.is_constant() {
                return Some(Think::Late(template));
            }
        }
        let pause = self.duration(node, "`think`")?;
        if let Kind::Scalar(Value::Number(number)) = &node.kind {
            if number.as_f64().is_some_and(|seconds| seconds.fract() != 0.0) {
                let shown = duration::shown(pause);
                self.warn(node.place, format!("`think: {number}` is {shown} here and in Artillery 1; Artillery 2 took it as milliseconds"));
            }
        }
        Some(Think::Fixed(pause))
    }

    fn jitter(&mut self, node: &Node) -> Option<Jitter> {
        let text = self.early_text(node, "`jitter`")?;
        let parsed = match text.strip_suffix('%') {
            Some(percent) => {
                percent.trim().parse().ok().filter(|p| (0.0..=100.0).contains(p)).map(Jitter::Percent)
            }
            None => match text.parse::<f64>() {
                Ok(ms) if (0.0..=8.64e7).contains(&ms) => {
                    Some(Jitter::Absolute(Duration::from_nanos((ms * 1e6).round() as u64)))
                }
                Ok(_) => None,
                Err(_) => duration::parse(&text).ok().map(Jitter::Absolute),
            },
        };
        if parsed.is_none() {
            let message = format!("`{text}` is no jitter");
            self.error(node.place, message, "write milliseconds (`200`) or a share (`20%`)".to_owned());
        }
        parsed
    }

    fn repeat(&mut self, node: &Node, body: &Node, engine: Engine, depth: usize) -> Option<Action> {
        let over = node.get("over").filter(|over| !over.is_null());
        let name_key = if over.is_some() { "loopElement" } else { "loopValue" };
        let value_name =
            match node.get(name_key).or_else(|| node.get("loopValue")).filter(|name| !name.is_null()) {
                Some(name) => self.early_text(name, "the name")?,
                None if over.is_some() => "$loopElement".to_owned(),
                None => "$loopCount".to_owned(),
            };
        self.set.insert(value_name.clone());
        let steps = self.flow(body, engine, depth + 1);
        if steps.is_empty() && matches!(&body.kind, Kind::List(items) if items.is_empty()) {
            self.error(body.place, "this loop has no steps", None);
        }
        let times = if let Some(over) = over {
            match &over.kind {
                Kind::List(items) => LoopTimes::Over(items.iter().map(Node::to_value).collect()),
                Kind::Scalar(Value::String(name)) => {
                    let inner = name.trim().trim_start_matches('{').trim_end_matches('}').trim();
                    self.reference(over.place, Reference { root: inner.to_owned(), path: inner.to_owned() });
                    LoopTimes::OverVariable(inner.to_owned())
                }
                _ => {
                    let message = format!("`over` is a list or the name of a variable, not {}", over.noun());
                    self.error(over.place, message, None);
                    return None;
                }
            }
        } else {
            match node.get("count").filter(|count| !count.is_null()) {
                None => LoopTimes::Count { from: 0, to: None },
                Some(count) => self.times(count)?,
            }
        };
        if matches!(times, LoopTimes::Count { to: None, .. }) {
            self.warn(node.place, "this loop never ends, so its users live until the run is interrupted");
        }
        Some(Action::Loop(Box::new(LoopStep { steps, times, value_name })))
    }

    fn times(&mut self, node: &Node) -> Option<LoopTimes> {
        if let Some(text) = node.as_str() {
            if text.contains("{{") {
                return Some(LoopTimes::Late(self.text_at(text, node.place)?));
            }
            if let Some((from, to)) = text.split_once('-') {
                if let (Ok(from), Ok(to)) = (from.trim().parse::<i64>(), to.trim().parse::<i64>()) {
                    if to <= from {
                        self.warn(
                            node.place,
                            format!("`{text}` repeats nothing: it counts from {from} to below {to}"),
                        );
                    }
                    return Some(LoopTimes::Count { from, to: Some(to) });
                }
            }
        }
        let number = self.number(node, "`count`")?;
        if number == -1.0 {
            return Some(LoopTimes::Count { from: 0, to: None });
        }
        if number < 0.0 || number.fract() != 0.0 || number > 1e15 {
            let help = "write a whole number, `1-10`, or -1 for ever".to_owned();
            self.error(node.place, format!("{number} is no count"), help);
            return None;
        }
        Some(LoopTimes::Count { from: 0, to: Some(number as i64) })
    }

    fn request(&mut self, verb: &str, node: &Node) -> Option<Action> {
        let method = verb.to_uppercase();
        let mut step = HttpStep {
            method: method.clone(),
            url: Template::constant(Value::Null),
            name: String::new(),
            headers: Vec::new(),
            cookies: Vec::new(),
            query: Vec::new(),
            body: HttpBody::Empty,
            auth: None,
            follow_redirects: true,
            captures: Vec::new(),
            matches: Vec::new(),
            if_true: None,
            probability: None,
            expect: Vec::new(),
        };
        if let Some(url) = node.as_str() {
            step.url = self.text_at(url, node.place)?;
            step.name = format!("{method} {url}");
            return Some(Action::Http(Box::new(step)));
        }
        if !self.is_map(node, &format!("`{verb}`")) {
            return None;
        }
        self.check_keys(node, Section::Request);
        let get = |key: &str| node.get(key).filter(|value| !value.is_null());
        let Some(url) = get("url").or_else(|| get("uri")) else {
            self.error(node.place, format!("this `{verb}` has no `url`"), None);
            return None;
        };
        let Some(text) = url.as_str() else {
            self.error(url.place, format!("`url` must be text, not {}", url.noun()), None);
            return None;
        };
        if !text.starts_with('/') && !text.contains("://") && !text.starts_with("{{") {
            let help = format!("write `/{text}` for a path on the target, or the whole address");
            self.error(url.place, format!("`{text}` is neither a path nor an address"), help);
        }
        step.url = self.text_at(text, url.place)?;
        step.name = match get("name") {
            Some(name) => self.early_text(name, "`name`")?,
            None => format!("{method} {text}"),
        };
        if let Some(headers) = get("headers") {
            step.headers = self.template_map(headers, "`headers`");
        }
        if let Some(cookies) = get("cookie") {
            step.cookies = self.template_map(cookies, "`cookie`");
        }
        if let Some(query) = get("qs") {
            step.query = self.template_map(query, "`qs`");
        }
        if let Some(json) = node.get("json") {
            step.body = HttpBody::Json(self.template(json)?);
        } else if let Some(body) = get("body") {
            step.body = HttpBody::Text(self.template(body)?);
        } else if let Some(form) = get("form") {
            step.body = HttpBody::Form(self.template_map(form, "`form`"));
        }
        if let Some(auth) = get("auth").filter(|auth| self.is_map(auth, "`auth`")) {
            self.check_keys(auth, Section::Auth);
            match (auth.get("user"), auth.get("pass")) {
                (Some(user), Some(pass)) => step.auth = Some((self.template(user)?, self.template(pass)?)),
                _ => self.error(auth.place, "`auth` needs `user` and `pass`", None),
            }
        }
        step.follow_redirects = self.opt_bool(node, "followRedirect").unwrap_or(true);
        (step.captures, step.matches) = self.captures_and_matches(node);
        if let Some(if_true) = get("ifTrue") {
            step.if_true = Some(self.if_true(if_true)?);
        }
        if let Some(probability) = get("probability") {
            if let Kind::Scalar(Value::Number(number)) = &probability.kind {
                if !number.as_f64().is_some_and(|p| (0.0..=100.0).contains(&p)) {
                    self.error(probability.place, "`probability` is a percentage, 0 to 100", None);
                }
            }
            step.probability = Some(self.template(probability)?);
        }
        if let Some(expect) = get("expect") {
            for item in list_of(expect) {
                self.expectations(item, &mut step.expect);
            }
        }
        Some(Action::Http(Box::new(step)))
    }

    fn if_true(&mut self, node: &Node) -> Option<Template> {
        if let Kind::Scalar(value @ Value::Bool(_)) = &node.kind {
            return Some(Template::constant(value.clone()));
        }
        let text = node.as_str().unwrap_or_default().trim();
        let name = text.trim_start_matches('{').trim_end_matches('}').trim();
        let hole = Template::text(&format!("{{{{ {name} }}}}")).ok();
        let Some(template) = hole.filter(|hole| hole.references().iter().any(|r| r.path == name)) else {
            self.error(
                node.place,
                format!("`ifTrue: {text}` is an expression, and drumfire only looks at one variable"),
                "capture or give what decides it as a variable and name that, or use `probability`"
                    .to_owned(),
            );
            return None;
        };
        for reference in template.references() {
            self.reference(node.place, reference);
        }
        Some(template)
    }

    fn expectations(&mut self, node: &Node, found: &mut Vec<Expectation>) {
        if !self.is_map(node, "`expect`") {
            return;
        }
        self.check_keys(node, Section::Expect);
        for (key, value) in node.entries() {
            let what = format!("`{}`", key.name);
            let text = |reader: &mut Self| reader.early_text(value, &what);
            let expectation = match key.name.as_str() {
                "statusCode" | "notStatusCode" => {
                    let mut codes = Vec::new();
                    for code in list_of(value) {
                        match self.whole(code, &what) {
                            Some(code) if (100..=999).contains(&code) => codes.push(code as u16),
                            Some(code) => self.error(value.place, format!("{code} is no status code"), None),
                            None => {}
                        }
                    }
                    let wrap = if key.name == "statusCode" {
                        Expectation::StatusCode
                    } else {
                        Expectation::NotStatusCode
                    };
                    Some(wrap(codes))
                }
                "contentType" => text(self).map(Expectation::ContentType),
                "hasHeader" => text(self).map(|name| Expectation::HasHeader(name.to_lowercase())),
                "hasProperty" => text(self).map(Expectation::HasProperty),
                "matchesRegexp" => {
                    let pattern = text(self);
                    if let Some(pattern) = &pattern {
                        self.check_pattern(pattern, "", value.place);
                    }
                    pattern.map(Expectation::MatchesRegexp)
                }
                "headerEquals" => match list_of(value) {
                    [name, wanted] => self
                        .early_text(name, &what)
                        .zip(self.template(wanted))
                        .map(|(name, wanted)| Expectation::HeaderEquals(name.to_lowercase(), wanted)),
                    _ => {
                        self.error(value.place, "`headerEquals` is `[name, value]`", None);
                        None
                    }
                },
                "equals" => {
                    let templates: Option<Vec<_>> =
                        list_of(value).iter().map(|item| self.template(item)).collect();
                    templates.map(Expectation::Equals)
                }
                _ => None,
            };
            found.extend(expectation);
        }
    }

    fn captures_and_matches(&mut self, node: &Node) -> (Vec<Capture>, Vec<Match>) {
        let (mut captures, mut matches) = (Vec::new(), Vec::new());
        for item in node.get("capture").filter(|node| !node.is_null()).map_or(&[][..], list_of) {
            if !self.is_map(item, "`capture`") {
                continue;
            }
            self.check_keys(item, Section::Capture);
            let strict = self.opt_bool(item, "strict").unwrap_or(self.strict_capture);
            let source = self.capture_source(item, "capture");
            match item.get("as").and_then(|name| self.early_text(name, "`as`")) {
                Some(save_as) => {
                    self.set.insert(save_as.clone());
                    captures.extend(source.map(|source| Capture { source, save_as, strict }));
                }
                None => {
                    self.error(item.place, "this capture does not say `as` what", "add `as: name`".to_owned())
                }
            }
        }
        for item in node.get("match").filter(|node| !node.is_null()).map_or(&[][..], list_of) {
            if !self.is_map(item, "`match`") {
                continue;
            }
            self.check_keys(item, Section::Match);
            let strict = self.opt_bool(item, "strict").unwrap_or(true);
            let source = self.capture_source(item, "match");
            match item.get("value") {
                Some(value) => {
                    let value = self.template(value);
                    matches.extend(source.zip(value).map(|(source, value)| Match { source, value, strict }));
                }
                None => self.error(item.place, "this match has no `value`", None),
            }
        }
        (captures, matches)
    }

    fn capture_source(&mut self, node: &Node, what: &str) -> Option<CaptureSource> {
        let text = |reader: &mut Self, key: &str| {
            node.get(key).filter(|n| !n.is_null()).and_then(|n| reader.early_text(n, &format!("`{key}`")))
        };
        if let Some(path) = text(self, "json") {
            if let Err(why) = JsonPath::parse(&path) {
                let place = node.get("json").map_or(node.place, |node| node.place);
                self.error(place, format!("`{path}` is no JSON path: {why}"), None);
            }
            return Some(CaptureSource::Json(path));
        }
        if let Some(pattern) = text(self, "regexp") {
            let flags = text(self, "flags").unwrap_or_default();
            self.check_pattern(&pattern, &flags, node.get("regexp").map_or(node.place, |node| node.place));
            return Some(CaptureSource::Regexp { pattern, flags, group: text(self, "group") });
        }
        if let Some(header) = text(self, "header") {
            return Some(CaptureSource::Header(header.to_lowercase()));
        }
        let refused = ["selector", "xpath"].iter().any(|key| node.get(key).is_some());
        if !refused {
            let help = "add `json: $.path`, `regexp: ...` or `header: name`".to_owned();
            self.error(node.place, format!("this {what} does not say where to look"), help);
        }
        None
    }

    fn check_pattern(&mut self, pattern: &str, flags: &str, place: Place) {
        if let Some(flag) = flags.chars().find(|flag| !"gimsuy".contains(*flag)) {
            self.error(place, format!("`{flag}` is no flag of a regular expression"), None);
        }
        if let Err(error) = regex::RegexBuilder::new(pattern).size_limit(1 << 22).build() {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or("").trim_start_matches("error: ").to_owned();
            let help = (last.contains("look-around") || last.contains("backreference")).then(|| {
                "drumfire's regular expressions know neither look-around nor back-references".to_owned()
            });
            self.error(place, format!("not a regular expression: {last}"), help);
        }
    }

    fn emit(&mut self, step: &Node, node: &Node) -> Option<Action> {
        let (event, args, nested) = match &node.kind {
            Kind::List(items) => {
                let Some((event, args)) = items.split_first() else {
                    self.error(node.place, "this `emit` names no event", None);
                    return None;
                };
                (event, args.iter().collect::<Vec<_>>(), None)
            }
            Kind::Map(_) => {
                self.check_keys(node, Section::Emit);
                let Some(channel) = node.get("channel").filter(|channel| !channel.is_null()) else {
                    let help = "add `channel: name`, or write `emit: [name, data]`".to_owned();
                    self.error(node.place, "this `emit` names no event", help);
                    return None;
                };
                (channel, node.get("data").into_iter().collect(), Some(node))
            }
            Kind::Scalar(Value::String(_)) => (node, Vec::new(), None),
            Kind::Scalar(_) => {
                let help = "write `emit: [name, data]` or `emit: {channel: name, data: ...}`".to_owned();
                self.error(
                    node.place,
                    format!("`emit` names an event and its data, not {}", node.noun()),
                    help,
                );
                return None;
            }
        };
        let event = match event.as_str() {
            Some(text) => self.text_at(text, event.place)?,
            None => {
                self.error(event.place, format!("an event's name is text, not {}", event.noun()), None);
                return None;
            }
        };
        let args: Vec<Template> = args.into_iter().filter_map(|arg| self.template(arg)).collect();

        // Inside `emit` (v1) or beside it (v2); both are honoured, and both at once is a contradiction.
        let mut option = |key: &str| {
            let inside = nested.and_then(|nested| nested.get(key)).filter(|node| !node.is_null());
            let beside = step.get(key).filter(|node| !node.is_null());
            if let (Some(_), Some(beside)) = (inside, beside) {
                let message = format!("`{key}` stands both inside `emit` and beside it");
                self.error(beside.place, message, "keep one of them".to_owned());
            }
            match (beside, inside) {
                (Some(node), _) => Some((node, PathsSee::ArgumentArray)),
                (None, Some(node)) => Some((node, PathsSee::FirstArgument)),
                (None, None) => None,
            }
        };
        let (namespace, response, acknowledge) =
            (option("namespace"), option("response"), option("acknowledge"));
        let namespace = match namespace {
            Some((node, _)) => {
                let name = node.as_str().unwrap_or("/").to_owned();
                let name =
                    if name.starts_with('/') || name.starts_with("{{") { name } else { format!("/{name}") };
                self.text_at(&name, node.place)?
            }
            None => Template::constant("/".into()),
        };
        let response = match response {
            Some((node, paths_see)) => Some(self.response(node, paths_see)?),
            None => None,
        };
        let acknowledge = match acknowledge {
            Some((node, _)) => self.acknowledge(node)?,
            None => None,
        };
        Some(Action::Emit(Box::new(EmitStep { event, args, namespace, response, acknowledge })))
    }

    fn response(&mut self, node: &Node, paths_see: PathsSee) -> Option<ResponseWait> {
        if let Some(text) = node.as_str() {
            let event = self.text_at(text, node.place)?;
            return Some(ResponseWait {
                event,
                data: None,
                captures: Vec::new(),
                matches: Vec::new(),
                paths_see,
            });
        }
        if !self.is_map(node, "`response`") {
            return None;
        }
        self.check_keys(node, Section::Response);
        let Some(event) = node.get("channel").or_else(|| node.get("on")).filter(|event| !event.is_null())
        else {
            self.error(node.place, "this `response` names no event", "add `on: name`".to_owned());
            return None;
        };
        let event = self.text_at(event.as_str().unwrap_or_default(), event.place)?;
        let lists_are_all = paths_see == PathsSee::ArgumentArray;
        let data = self.data_check(node, lists_are_all)?;
        let (captures, matches) = self.captures_and_matches(node);
        Some(ResponseWait { event, data, captures, matches, paths_see })
    }

    /// `Some(None)`: `acknowledge: false`.
    fn acknowledge(&mut self, node: &Node) -> Option<Option<AckWait>> {
        match &node.kind {
            Kind::Scalar(Value::Bool(false)) => Some(None),
            Kind::Scalar(Value::Bool(true)) => {
                Some(Some(AckWait { data: None, captures: Vec::new(), matches: Vec::new() }))
            }
            Kind::Map(_) => {
                self.check_keys(node, Section::Acknowledge);
                let data = self.data_check(node, true)?;
                let (captures, matches) = self.captures_and_matches(node);
                Some(Some(AckWait { data, captures, matches }))
            }
            _ => {
                let help = "write `acknowledge: true` or a mapping with data, match or capture".to_owned();
                self.error(node.place, format!("`acknowledge` is not {}", node.noun()), help);
                None
            }
        }
    }

    /// `None`: a problem; `Some(None)`: nothing is asked of the data.
    fn data_check(&mut self, node: &Node, lists_are_all: bool) -> Option<Option<DataCheck>> {
        if let Some(args) = node.get("args") {
            let template = match &args.kind {
                Kind::List(_) => self.template(args)?,
                _ => {
                    let list = Node { place: args.place, kind: Kind::List(vec![args.clone()]) };
                    self.template(&list)?
                }
            };
            return Some(Some(DataCheck::AllArguments(template)));
        }
        let Some(data) = node.get("data") else { return Some(None) };
        let template = self.template(data)?;
        Some(Some(match data.kind {
            Kind::List(_) if lists_are_all => DataCheck::AllArguments(template),
            _ => DataCheck::FirstArgument(template),
        }))
    }

    // -- keys, templates, values

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
                    self.ignored(section, entry.key, key.place)
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
        Some(super::template::text_of(&value).into_owned())
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
            let shown = super::template::text_of(&value);
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
                let shown = super::template::text_of(&value).into_owned();
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
