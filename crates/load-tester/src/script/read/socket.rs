//! Steps of users that have a connection: connecting and leaving, waiting for what comes, frames of a plain WebSocket.

use std::num::NonZeroU32;

use super::*;

const MOST_WAITED_FOR: u64 = 100_000;

impl Reader<'_> {
    /// `config.ws`.
    pub(super) fn ws(&mut self, node: &Node) -> WsConfig {
        let mut config = WsConfig::default();
        if let Some(headers) = node.get("headers").filter(|headers| !headers.is_null()) {
            config.headers = self.headers(headers, "`headers`");
        }
        if let Some(subprotocols) = node.get("subprotocols").filter(|list| !list.is_null()) {
            config.subprotocols = self.subprotocols(subprotocols);
        }
        config
    }

    fn subprotocols(&mut self, node: &Node) -> Vec<String> {
        list_of(node).iter().filter_map(|item| self.early_text(item, "a subprotocol")).collect()
    }

    pub(super) fn connect(&mut self, node: &Node, engine: Engine) -> Option<Action> {
        let mut step = ConnectStep::default();
        match (&node.kind, engine) {
            (Kind::Scalar(Value::Bool(true) | Value::Null), _) => {}
            (Kind::Scalar(Value::String(text)), Engine::WebSocket) => {
                step.target = Some(self.text_at(text, node.place)?);
            }
            (Kind::Map(_), _) => {
                let section = if engine == Engine::WebSocket { Section::WsConnect } else { Section::Connect };
                self.check_keys(node, section);
                let get = |key: &str| node.get(key).filter(|value| !value.is_null());
                if let Some(target) = get("target").filter(|_| engine == Engine::WebSocket) {
                    let Some(text) = target.as_str() else {
                        self.error(target.place, format!("`target` is text, not {}", target.noun()), None);
                        return None;
                    };
                    step.target = Some(self.text_at(text, target.place)?);
                }
                if let Some(query) = get("query") {
                    step.query = Some(self.query(query));
                }
                if let Some(headers) = get("headers").or_else(|| get("extraHeaders")) {
                    step.headers = Some(self.template_map(headers, "headers"));
                }
                if let Some(auth) = get("auth").filter(|auth| self.is_map(auth, "`auth`")) {
                    step.auth = self.template(auth);
                }
                if let Some(subprotocols) = get("subprotocols") {
                    step.subprotocols = Some(self.subprotocols(subprotocols));
                }
            }
            _ => {
                let help = if engine == Engine::WebSocket {
                    "write `connect: true`, an address, or a mapping with `target`, `headers` and `subprotocols`"
                } else {
                    "write `connect: true`, or a mapping with `auth`, `query` and `extraHeaders`"
                };
                self.error(node.place, format!("`connect` is not {}", node.noun()), help.to_owned());
                return None;
            }
        }
        Some(Action::Connect(Box::new(step)))
    }

    /// Pairs out of a mapping or of `a=b&c=d`.
    pub(super) fn query(&mut self, node: &Node) -> Vec<(String, Template)> {
        let Some(text) = node.as_str() else { return self.template_map(node, "`query`") };
        let pairs = url::form_urlencoded::parse(text.trim_start_matches('?').as_bytes());
        let pairs: Vec<(String, String)> = pairs.into_owned().collect();
        pairs
            .into_iter()
            .filter_map(|(name, value)| Some((name, self.text_at(&value, node.place)?)))
            .collect()
    }

    pub(super) fn disconnect(&mut self, node: &Node) -> Option<Action> {
        let how = match &node.kind {
            Kind::Scalar(Value::Bool(true) | Value::Null) => return Some(Action::Disconnect(Leaving::Close)),
            Kind::Map(_) => {
                self.check_keys(node, Section::Disconnect);
                match node.get("how") {
                    Some(how) => how,
                    None => return Some(Action::Disconnect(Leaving::Close)),
                }
            }
            _ => node,
        };
        let leaving = match how.as_str() {
            Some("close") => Some(Leaving::Close),
            Some("drop") => Some(Leaving::Drop),
            Some("silent") => Some(Leaving::Silent),
            _ => None,
        };
        if leaving.is_none() {
            let shown = how.as_str().map_or_else(|| how.noun().to_owned(), |text| format!("`{text}`"));
            self.error(
                how.place,
                format!("{shown} is no way to disconnect"),
                "write `disconnect: true` (says goodbye), or `how: close`, `drop` (without a word) or `silent` (stays \
                 open and answers nothing)"
                    .to_owned(),
            );
        }
        leaving.map(Action::Disconnect)
    }

    pub(super) fn reconnect(&mut self, node: &Node) -> Option<Action> {
        let after = match &node.kind {
            Kind::Scalar(Value::Bool(true) | Value::Null) => Duration::ZERO,
            Kind::Map(_) => {
                self.check_keys(node, Section::Reconnect);
                match node.get("after").filter(|after| !after.is_null()) {
                    Some(after) => self.duration(after, "`after`")?,
                    None => Duration::ZERO,
                }
            }
            _ => {
                let help = "write `reconnect: true` or `reconnect: {after: 2}`".to_owned();
                self.error(node.place, format!("`reconnect` is not {}", node.noun()), help);
                return None;
            }
        };
        Some(Action::Reconnect { after })
    }

    pub(super) fn listen(&mut self, node: &Node) -> Option<Action> {
        let (names, namespace) = match &node.kind {
            Kind::Map(_) => {
                self.check_keys(node, Section::Listen);
                let Some(names) = node.get("for").filter(|names| !names.is_null()) else {
                    self.error(node.place, "this `listen` names no event", "add `for: name`".to_owned());
                    return None;
                };
                (names, self.namespace(node.get("namespace").filter(|node| !node.is_null()))?)
            }
            _ => (node, Template::constant("/".into())),
        };
        let mut events = Vec::new();
        for name in list_of(names) {
            events.push(self.event_name(name)?);
        }
        if events.is_empty() {
            self.error(names.place, "this `listen` names no event", "write `listen: name`".to_owned());
            return None;
        }
        Some(Action::Listen(Box::new(ListenStep { events, namespace })))
    }

    fn event_name(&mut self, node: &Node) -> Option<Template> {
        match node.as_str() {
            Some(text) if !text.is_empty() => self.text_at(text, node.place),
            _ => {
                self.error(node.place, format!("an event's name is text, not {}", node.noun()), None);
                None
            }
        }
    }

    /// The namespace of a step, `/` when it names none.
    pub(super) fn namespace(&mut self, node: Option<&Node>) -> Option<Template> {
        let Some(node) = node else { return Some(Template::constant("/".into())) };
        let name = node.as_str().unwrap_or("/").to_owned();
        let name = if name.starts_with('/') || name.starts_with("{{") { name } else { format!("/{name}") };
        self.text_at(&name, node.place)
    }

    pub(super) fn wait(&mut self, node: &Node, engine: Engine) -> Option<Action> {
        let mut step = WaitStep {
            event: None,
            namespace: Template::constant("/".into()),
            timeout: None,
            count: 1,
            captures: Vec::new(),
            matches: Vec::new(),
            collect: None,
        };
        match (&node.kind, engine) {
            (Kind::Scalar(Value::String(_)), Engine::SocketIo) => step.event = Some(self.event_name(node)?),
            (Kind::Scalar(Value::Bool(true) | Value::Null), Engine::WebSocket) => {}
            (Kind::Map(_), _) => {
                self.check_keys(node, Section::Wait);
                let get = |key: &str| node.get(key).filter(|value| !value.is_null());
                match (get("for"), engine) {
                    (Some(name), Engine::SocketIo) => step.event = Some(self.event_name(name)?),
                    (None, Engine::SocketIo) => {
                        let help = "add `for: name`".to_owned();
                        self.error(node.place, "this `wait` does not say for which event", help);
                        return None;
                    }
                    (Some(name), _) => {
                        let help = "leave `for` out and choose with `match`".to_owned();
                        self.error(name.place, "frames of a plain WebSocket have no name", help);
                    }
                    (None, _) => {}
                }
                step.namespace = self.namespace(get("namespace"))?;
                if let Some(timeout) = get("timeout") {
                    let duration = self.duration(timeout, "`timeout`")?;
                    if duration.is_zero() {
                        let help = "leave it out for `config.timeout`".to_owned();
                        self.error(timeout.place, "a wait of no time waits for nothing", help);
                    }
                    step.timeout = Some(duration);
                }
                if let Some(count) = get("count") {
                    step.count = self.whole(count, "`count`")?;
                    if !(1..=MOST_WAITED_FOR).contains(&step.count) {
                        self.error(
                            count.place,
                            format!("`count` lies between 1 and {MOST_WAITED_FOR}"),
                            None,
                        );
                    }
                }
                (step.captures, step.matches) = self.captures_and_matches(node);
                if let Some(collect) = get("collect") {
                    let name = self.early_text(collect, "`collect`")?;
                    self.set.insert(name.clone());
                    step.collect = Some(name);
                }
            }
            _ => {
                let help = if engine == Engine::WebSocket {
                    "write `wait: true`, or a mapping with `match`, `capture`, `count` or `timeout`"
                } else {
                    "write `wait: event`, or `wait: {for: event, timeout: 5, count: 3}`"
                };
                self.error(node.place, format!("`wait` is not {}", node.noun()), help.to_owned());
                return None;
            }
        }
        Some(Action::Wait(Box::new(step)))
    }

    pub(super) fn slow_reading(&mut self, node: &Node) -> Option<Action> {
        if !self.is_map(node, "`read`") {
            return None;
        }
        self.check_keys(node, Section::Read);
        const HELP: &str = "e.g. `read: {bytesPerSecond: 100, for: 10}` or `read: {stop: true, for: 10}`";
        let rate = node.get("bytesPerSecond").filter(|rate| !rate.is_null());
        let stop = self.opt_bool(node, "stop").unwrap_or(false);
        let bytes_per_second = match (rate, stop) {
            (Some(rate), false) => {
                let number = self.whole(rate, "`bytesPerSecond`")?;
                let rate_found = u32::try_from(number).ok().and_then(NonZeroU32::new);
                if rate_found.is_none() {
                    let help = "`stop: true` reads nothing".to_owned();
                    self.error(rate.place, "`bytesPerSecond` lies between 1 and 4294967295", help);
                    return None;
                }
                rate_found
            }
            (None, true) => None,
            _ => {
                let message = "`read` needs either `bytesPerSecond` or `stop: true`";
                self.error(node.place, message, HELP.to_owned());
                return None;
            }
        };
        let Some(time) = node.get("for").filter(|time| !time.is_null()) else {
            self.error(node.place, "`read` does not say for how long", HELP.to_owned());
            return None;
        };
        let time = self.duration(time, "`for`")?;
        Some(Action::Read { bytes_per_second, time })
    }

    /// One frame. A mapping with `payload` is options, as in Artillery; any other is the message itself.
    pub(super) fn send(&mut self, node: &Node) -> Option<Action> {
        let mut step = SendStep { payload: Template::constant(Value::Null), binary: false, answer: None };
        let payload = match node.get("payload") {
            Some(payload) if matches!(node.kind, Kind::Map(_)) => {
                self.check_keys(node, Section::Send);
                if node.get("capture").is_some() || node.get("match").is_some() {
                    step.answer = Some(self.captures_and_matches(node));
                }
                if let Some(encoding) = node.get("encoding").filter(|encoding| !encoding.is_null()) {
                    match encoding.as_str() {
                        Some("base64") => step.binary = true,
                        Some("text") => {}
                        _ => {
                            let help = "`base64` sends a binary frame; leave it out for text".to_owned();
                            self.error(encoding.place, "this is no encoding", help);
                        }
                    }
                }
                payload
            }
            _ => node,
        };
        if payload.is_null() {
            self.error(payload.place, "this `send` has nothing to send", "write `send: text`".to_owned());
            return None;
        }
        step.payload = self.template(payload)?;
        if step.binary
            && let Some(value) = step.payload.as_constant()
        {
            use base64::Engine as _;
            let decoded = value.as_str().map(|text| base64::engine::general_purpose::STANDARD.decode(text));
            if !matches!(decoded, Some(Ok(_))) {
                self.error(payload.place, "this is no base64", None);
            }
        }
        Some(Action::Send(Box::new(step)))
    }
}
