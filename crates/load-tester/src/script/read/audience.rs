//! `config.listeners` and `config.delivery`: who stands and listens, and what should reach them.

use super::*;

impl Reader<'_> {
    /// Groups of listeners, whose classes must be told apart in reports.
    pub(super) fn listener_groups(&mut self, node: &Node) -> Vec<ListenerGroup> {
        let mut groups: Vec<ListenerGroup> = Vec::new();
        for node in list_of(node) {
            let Some(group) = self.listener_group(node) else { continue };
            let class = group.class(groups.len());
            if let Some(other) = (0..groups.len()).find(|&index| groups[index].class(index) == class) {
                let place = node.get("name").unwrap_or(node).place;
                self.error(
                    place,
                    format!("two groups of listeners are named `{class}`, the other is number {}", other + 1),
                    "give each a `name` of its own; one without has its number".to_owned(),
                );
            }
            groups.push(group);
        }
        groups
    }

    fn listener_group(&mut self, node: &Node) -> Option<ListenerGroup> {
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
        let seen = std::mem::replace(&mut self.seen, Seen::ByListeners(names));
        let returning = node.get("returning").filter(|returning| !returning.is_null());
        let flow = match node.get("flow") {
            Some(flow) => self.flow(flow, Engine::SocketIo, 0),
            None => Vec::new(),
        };
        let returning = returning.and_then(|returning| self.returning(returning, &flow));
        let moving = node.get("moving").filter(|moving| !moving.is_null());
        let moving = moving.and_then(|moving| self.moving(moving, place.is_some()));
        self.seen = seen;
        let leaves = returning.as_ref().is_some_and(|returning| returning.every.is_some());
        if let (true, Some(moving)) = (leaves, node.get("moving")) {
            self.error(moving.place, "listeners either move or come and go", "make two groups".to_owned());
        }
        let slow = node.get("slow").filter(|slow| !slow.is_null());
        let slow = slow.and_then(|slow| self.slow(slow));
        let storms = match node.get("storm").filter(|storms| !storms.is_null()) {
            Some(storms) => list_of(storms).iter().filter_map(|storm| self.storm(storm)).collect(),
            None => Vec::new(),
        };
        let reconnect = self.opt_bool(node, "reconnect").unwrap_or(true);
        let count = count as usize;
        Some(ListenerGroup { name, count, place, payloads, flow, moving, returning, slow, storms, reconnect })
    }

    fn slow(&mut self, node: &Node) -> Option<model::Slow> {
        if !self.is_map(node, "`slow`") {
            return None;
        }
        self.check_keys(node, Section::Slow);
        let stop = self.opt_bool(node, "stopReading").unwrap_or(false);
        let rate = node.get("bytesPerSecond").filter(|rate| !rate.is_null());
        match (rate, stop) {
            (None, true) => Some(model::Slow::StopReading),
            (Some(rate), false) => {
                let bytes = self.whole(rate, "`bytesPerSecond`")?;
                let bytes = std::num::NonZeroU32::new(u32::try_from(bytes).unwrap_or(u32::MAX));
                if bytes.is_none() {
                    let help = "write `stopReading: true` for listeners that read nothing".to_owned();
                    self.error(rate.place, "`bytesPerSecond` is at least 1", help);
                }
                bytes.map(model::Slow::BytesPerSecond)
            }
            _ => {
                let help = "e.g. `slow: {bytesPerSecond: 2000}` or `slow: {stopReading: true}`".to_owned();
                self.error(
                    node.place,
                    "`slow` needs `bytesPerSecond` or `stopReading`, one of the two",
                    help,
                );
                None
            }
        }
    }

    fn storm(&mut self, node: &Node) -> Option<model::Storm> {
        if !self.is_map(node, "`storm`") {
            return None;
        }
        self.check_keys(node, Section::Storm);
        let given = |key: &str| node.get(key).filter(|value| !value.is_null());
        let Some(at) = given("at") else {
            self.error(
                node.place,
                "this storm has no `at`",
                "e.g. `at: 20s`, from the first phase on".to_owned(),
            );
            return None;
        };
        let at = self.duration(at, "`at`")?;
        let share = match given("share") {
            Some(node) => {
                let share = self.number(node, "`share`")?;
                if !(share > 0.0 && share <= 1.0) {
                    let help = "0.5 is half of the group".to_owned();
                    self.error(node.place, "`share` is above 0 and at most 1", help);
                    return None;
                }
                share
            }
            None => 1.0,
        };
        let over = match given("over") {
            Some(over) => self.duration(over, "`over`")?,
            None => Duration::ZERO,
        };
        let how = match given("how") {
            None => model::Cut::Drop,
            Some(how) => match self.early_text(how, "`how`")?.as_str() {
                "close" => model::Cut::Close,
                "drop" => model::Cut::Drop,
                "silent" => model::Cut::Silent,
                other => {
                    let help = "write `close`, `drop` or `silent`".to_owned();
                    self.error(how.place, format!("`{other}` is no way to lose a connection"), help);
                    return None;
                }
            },
        };
        let back = match given("back") {
            None => model::Back::Backoff,
            Some(back) => match self.early_text(back, "`back`")?.as_str() {
                "backoff" => model::Back::Backoff,
                "at-once" => model::Back::AtOnce,
                "never" => model::Back::Never,
                other => {
                    let help = "write `backoff`, `at-once` or `never`".to_owned();
                    self.error(back.place, format!("`{other}` is no way to come back"), help);
                    return None;
                }
            },
        };
        Some(model::Storm { at, share, how, over, back })
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
        let every = match node.get("every").filter(|every| !every.is_null()) {
            Some(every_node) => {
                let every = self.duration(every_node, "`every`")?;
                if every < Duration::from_millis(100) {
                    self.error(every_node.place, "`every` is at least 100ms", None);
                }
                Some(every)
            }
            None if node.get("cursor").is_some() && node.get("away").is_none() => None,
            None => {
                self.error(node.place, "`returning` needs `every`", "e.g. `every: 30s`".to_owned());
                return None;
            }
        };
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
