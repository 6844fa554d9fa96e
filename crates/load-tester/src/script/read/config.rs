//! `config`: target, phases, payloads, handshakes, limits.

use super::*;
use crate::ensure::Expression;
use crate::metric::Metric;

impl Reader<'_> {
    pub(super) fn config(
        &mut self,
        node: &Node,
        root: Place,
        variables: Vec<(String, Vec<Value>)>,
    ) -> Option<Config> {
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
                http.headers = self.headers(headers, "`headers`");
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
        let ws_config = ws.map(|ws| self.ws(ws)).unwrap_or_default();

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
                        self.warn(key.place, format!("the plugin `{}` is not known and ignored", key.name));
                    }
                }
            }
        }
        let ensure = get("ensure")
            .or_else(|| get("plugins")?.get("ensure").filter(|node| !node.entries().is_empty()))
            .and_then(|node| self.ensure(node));

        let phases = self.phases(node);
        let max_duration = get("maxDuration")
            .and_then(|node| Some((node, self.duration(node, "`maxDuration`")?)))
            .filter(|(node, length)| {
                if length.is_zero() {
                    self.error(node.place, "`maxDuration` of nothing leaves no run", None);
                }
                !length.is_zero()
            });
        let sources = get("sources").map(|node| self.source_addresses(node)).unwrap_or_default();
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
                // The official client's own order.
                transports: vec![Transport::Polling, Transport::WebSocket],
                upgrade: true,
                path: "/socket.io/".into(),
                query: Vec::new(),
                extra_headers: Vec::new(),
                auth: None,
                revision: None,
            },
            ws: ws_config,
            think_jitter,
            listeners: Vec::new(),
            delivery: None,
            monitor: Vec::new(),
            ensure,
            seed: self.options.seed.unwrap_or(0),
            stats_interval: stats_interval
                .filter(|interval| *interval >= Duration::from_secs(1))
                .unwrap_or(Duration::from_secs(10)),
            max_duration: max_duration.map(|(_, length)| length),
            sources,
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
            config.listeners = self.listener_groups(node);
        }
        if let Some(node) = get("delivery") {
            config.delivery = self.delivery(node, &config.listeners);
            let deadline = config.delivery.as_ref().map(|delivery| delivery.deadline);
            if let Some(deadline) = deadline.filter(|deadline| *deadline < config.timeout) {
                self.warn(
                    node.get("deadline").unwrap_or(node).place,
                    format!(
                        "a message is judged after {}, but may be refused as late as {} (`timeout`): what is refused between \
                         counts as missing",
                        shown(deadline),
                        shown(config.timeout)
                    ),
                );
            }
        }
        if let Some(node) = get("monitor") {
            config.monitor = self.monitors(node);
        }
        Some(config)
    }

    fn source_addresses(&mut self, node: &Node) -> Sources {
        let mut all = Vec::new();
        for one in list_of(node) {
            let Some(text) = self.early_text(one, "`sources`") else { continue };
            // One by one, so that the place is that of the address.
            match Sources::parse([text.as_str()]) {
                Ok(_) => all.push(text),
                Err(error) => self.error(one.place, error.to_string(), None),
            }
        }
        Sources::parse(all.iter().map(String::as_str)).unwrap_or_default()
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
                let help = if text.contains("://") || text.starts_with('/') {
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
        let at_once = |phase: &Phase| match phase.kind {
            PhaseKind::Closed { from, to, .. } => from.max(to),
            _ => 0,
        };
        let at_once: u64 = phases.iter().map(at_once).fold(0, u64::saturating_add);
        if at_once > plan::MAX_CONCURRENCY {
            let limit = plan::MAX_CONCURRENCY;
            self.error(
                node.place,
                format!("{at_once} users at once in closed phases is more than {limit}"),
                None,
            );
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
            if let Some(concurrency) = get("concurrency") {
                let kind = self.closed(node, concurrency, duration_node, duration)?;
                return Some(Phase { name, kind, max_vusers: None });
            }
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
                            "add `arrivalRate` (users a second), `arrivalCount` (users in all), `rampTo` or `concurrency` \
                             (users at once)"
                                .to_owned(),
                        );
                        return None;
                    }
                }
            }
        };
        let phase = Phase { name, kind, max_vusers };
        let arrivals = !matches!(phase.kind, PhaseKind::Pause { .. } | PhaseKind::Closed { .. });
        if arrivals && plan::expected_arrivals(&phase) == 0 && self.problems.len() == problems {
            self.warn(node.place, "nobody arrives in this phase: it ends before the first whole user");
        }
        Some(phase)
    }

    /// `concurrency: N`, with `rampTo: M` a line from the one to the other.
    fn closed(
        &mut self,
        phase: &Node,
        concurrency: &Node,
        duration_node: &Node,
        duration: Duration,
    ) -> Option<PhaseKind> {
        for (key, why) in [
            ("arrivalRate", "is of the open model, where users come whether or not others have ended"),
            ("arrivalCount", "is of the open model, where users come whether or not others have ended"),
            ("maxVusers", "says the same twice: `concurrency` is the most at once"),
        ] {
            if let Some(node) = phase.get(key).filter(|node| !node.is_null()) {
                let message = format!("`{key}` beside `concurrency` {why}");
                self.error(node.place, message, "leave out one of them, or make two phases of it".to_owned());
            }
        }
        let from = self.whole(concurrency, "`concurrency`")?;
        let to = match phase.get("rampTo").filter(|node| !node.is_null()) {
            Some(node) => self.whole(node, "`rampTo`")?,
            None => from,
        };
        if duration.is_zero() {
            self.error(duration_node.place, "a closed phase of no duration keeps nobody", None);
            return None;
        }
        if from.max(to) == 0 {
            self.warn(phase.place, "nobody is wanted in this phase: it is a pause");
            return Some(PhaseKind::Pause { duration });
        }
        Some(PhaseKind::Closed { duration, from, to })
    }

    fn rate(&mut self, node: &Node, what: &str) -> Option<f64> {
        let rate = self.number(node, what)?;
        if !(0.0..=1e8).contains(&rate) {
            self.error(node.place, format!("{what} must lie between 0 and 100000000"), None);
            return None;
        }
        Some(rate)
    }

    pub(super) fn payloads(&mut self, node: Option<&Node>, of_config: bool) -> Vec<Payload> {
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
        if self.files
            && !first.exists()
            && let Some(other) = beside(self.sources.get(place.source as usize)).filter(|path| path.exists())
        {
            return other;
        }
        first
    }

    pub(super) fn socketio(&mut self, node: &Node, config: &mut Config) {
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
            if !list.is_empty() {
                config.socketio.transports = list;
            }
        }
        if let Some(upgrade) = self.opt_bool(node, "upgrade") {
            config.socketio.upgrade = upgrade;
        }
        if let Some(path) = get("path").and_then(|path| self.early_text(path, "`path`")) {
            config.socketio.path = if path.starts_with('/') { path } else { format!("/{path}") };
            if !config.socketio.path.ends_with('/') {
                config.socketio.path.push('/');
            }
        }
        if let Some(query) = get("query") {
            config.socketio.query = self.query(query);
        }
        if let Some(headers) = get("extraHeaders") {
            config.socketio.extra_headers = self.headers(headers, "`extraHeaders`");
        }
        if let Some(auth) = get("auth")
            && self.is_map(auth, "`auth`")
        {
            config.socketio.auth = self.template(auth);
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
                                self.figure(metric.place, &metric.name);
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
                        let node = item.get("expression");
                        match node.and_then(Node::as_str) {
                            Some(expression) => {
                                let place = node.map_or(item.place, |node| node.place);
                                match Expression::parse(expression) {
                                    Ok(read) => {
                                        read.names(&mut |name| self.figure(place, name));
                                        if let Some(why) = read.mismatch() {
                                            self.warn(place, why);
                                        }
                                    }
                                    Err(why) => {
                                        self.warn(
                                            place,
                                            format!("it cannot be read and will not hold: {why}"),
                                        );
                                    }
                                }
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

    /// A limit on a figure that nobody measures would fail after the run; better to hear of it before.
    fn figure(&mut self, place: Place, name: &str) {
        if let Err(unknown) = Metric::named(name) {
            self.warn(place, unknown.to_string());
        }
    }
}
