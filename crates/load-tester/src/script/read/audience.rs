//! `config.listeners` and `config.delivery`: who stands and listens, and what should reach them.

use super::*;

impl Reader<'_> {
    pub(super) fn listener_group(&mut self, node: &Node, index: usize) -> Option<ListenerGroup> {
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
        if node.get("returning").is_some() {
            names.push("since".to_owned());
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
        let engine = match node.get("engine").filter(|engine| !engine.is_null()) {
            None => Engine::SocketIo,
            Some(engine_node) => match self.engine_name(engine_node)? {
                Engine::Http => {
                    let help = "listeners hear through `socketio` or `ws`".to_owned();
                    self.error(engine_node.place, "over http nobody can listen", help);
                    return None;
                }
                engine => engine,
            },
        };
        let seen = std::mem::replace(&mut self.seen, Seen::ByListeners(names));
        let returning = node.get("returning").filter(|returning| !returning.is_null());
        let flow = match node.get("flow") {
            Some(flow) => self.flow(flow, engine, 0),
            None => Vec::new(),
        };
        let returning = returning.and_then(|returning| self.returning(returning, &flow));
        let moving = node.get("moving").filter(|moving| !moving.is_null());
        if let Some(moving) = moving.filter(|_| engine == Engine::WebSocket) {
            let help = "an acknowledgement tells when a listener has moved, and plain WebSockets have none"
                .to_owned();
            self.error(moving.place, "listeners of the ws engine stand still", help);
        }
        let moving = moving.and_then(|moving| self.moving(moving, place.is_some()));
        self.seen = seen;
        let name = name.or_else(|| (index > 0).then(|| index.to_string()));
        if let (Some(_), Some(moving)) = (&returning, node.get("moving")) {
            self.error(moving.place, "listeners either move or come and go", "make two groups".to_owned());
        }
        Some(ListenerGroup { name, count: count as usize, engine, place, payloads, flow, moving, returning })
    }

    fn listener_place(&mut self, node: &Node) -> Option<model::Place> {
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
        Some(model::Place { lng, lat, within_m, radius_m })
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

    fn returning(&mut self, node: &Node, flow: &[Step]) -> Option<Returning> {
        if !self.is_map(node, "`returning`") {
            return None;
        }
        self.check_keys(node, Section::Returning);
        let Some(every_node) = node.get("every") else {
            self.error(node.place, "`returning` needs `every`", "e.g. `every: 30s`".to_owned());
            return None;
        };
        let every = self.duration(every_node, "`every`")?;
        if every < Duration::from_millis(100) {
            self.error(every_node.place, "`every` is at least 100ms", None);
        }
        let away = match node.get("away") {
            Some(away) => self.duration(away, "`away`")?,
            None => Duration::from_secs(1),
        };
        let cursor = match node.get("cursor") {
            Some(cursor) => self.early_text(cursor, "`cursor`")?,
            None => "result.cursor".to_owned(),
        };
        if flow.is_empty() {
            self.error(
                node.place,
                "`returning` needs a `flow` in its group",
                "the steps that join again, `{{ since }}` among them".to_owned(),
            );
        }
        Some(Returning { every, away, cursor: cursor.split('.').map(str::to_owned).collect() })
    }

    pub(super) fn delivery(&mut self, node: &Node, listeners: &[ListenerGroup]) -> Option<DeliveryConfig> {
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
}
