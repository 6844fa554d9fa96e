//! Scenarios and the steps of their flows.

use super::*;

impl Reader<'_> {
    pub(super) fn scenario(&mut self, node: &Node, default_name: &str, section: Section) -> Option<Scenario> {
        if !self.is_map(node, "a scenario") {
            return None;
        }
        self.check_keys(node, section);
        let engine = match node.get("engine").filter(|engine| !engine.is_null()) {
            Some(engine) => self.engine_name(engine)?,
            None => self.engine,
        };
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

    pub(super) fn engine_name(&mut self, node: &Node) -> Option<Engine> {
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
    pub(super) fn choose(&mut self, scenarios: &mut Vec<Scenario>, wanted: &str, place: Place) {
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

    pub(super) fn flow(&mut self, node: &Node, engine: Engine, depth: usize) -> Vec<Step> {
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
                        || {
                            "steps are get, post, put, patch, delete, head, options, emit, send, listen, wait, connect, \
                             disconnect, reconnect, read, think, log and loop"
                                .to_owned()
                        },
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
        if let Some(wanted) = foreign(name, engine) {
            let own = engine.name();
            let help = match (name, engine) {
                ("send", Engine::SocketIo) => "write `emit: [event, data]`".to_owned(),
                ("emit", Engine::WebSocket) => "write `send: ...`".to_owned(),
                ("listen", Engine::WebSocket) => {
                    "frames have no name: `wait` sees every one, choose with its `match`".to_owned()
                }
                _ => format!("add `engine: {wanted}` to this scenario"),
            };
            self.error(key.place, format!("`{name}` is no step of the {own} engine"), help);
            return None;
        }
        match name {
            "emit" => self.emit(node, value),
            "send" => self.send(value),
            "connect" => self.connect(value, engine),
            "disconnect" => self.disconnect(value),
            "reconnect" => self.reconnect(value),
            "listen" => self.listen(value),
            "wait" => self.wait(value, engine),
            "read" => self.slow_reading(value),
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
        if let Kind::Scalar(Value::Number(number)) = &node.kind
            && number.as_f64().is_some_and(|seconds| seconds.fract() != 0.0)
        {
            let shown = duration::shown(pause);
            self.warn(node.place, format!("`think: {number}` is {shown} here and in Artillery 1; Artillery 2 took it as milliseconds"));
        }
        Some(Think::Fixed(pause))
    }

    pub(super) fn jitter(&mut self, node: &Node) -> Option<Jitter> {
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
            if let Some((from, to)) = text.split_once('-')
                && let (Ok(from), Ok(to)) = (from.trim().parse::<i64>(), to.trim().parse::<i64>())
            {
                if to <= from {
                    self.warn(
                        node.place,
                        format!("`{text}` repeats nothing: it counts from {from} to below {to}"),
                    );
                }
                return Some(LoopTimes::Count { from, to: Some(to) });
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
}

/// The engine a step belongs to when it is not this one.
fn foreign(step: &str, engine: Engine) -> Option<&'static str> {
    match (step, engine) {
        ("emit" | "listen", Engine::Http | Engine::WebSocket)
        | ("wait" | "connect" | "disconnect" | "reconnect" | "read", Engine::Http) => Some("socketio"),
        ("send", Engine::Http | Engine::SocketIo) => Some("ws"),
        _ => None,
    }
}
