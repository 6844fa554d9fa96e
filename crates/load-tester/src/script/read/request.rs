//! HTTP steps: requests, what is captured from their answers and expected of them.

use super::*;

impl Reader<'_> {
    pub(super) fn request(&mut self, verb: &str, node: &Node) -> Option<Action> {
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
            step.headers = self.headers(headers, "`headers`");
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
            if let Kind::Scalar(Value::Number(number)) = &probability.kind
                && !number.as_f64().is_some_and(|p| (0.0..=100.0).contains(&p))
            {
                self.error(probability.place, "`probability` is a percentage, 0 to 100", None);
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

    pub(super) fn captures_and_matches(&mut self, node: &Node) -> (Vec<Capture>, Vec<Match>) {
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
                    self.error(
                        item.place,
                        "this capture does not say `as` what",
                        "add `as: name`".to_owned(),
                    );
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
        if let Err(error) = regexp(pattern, flags) {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or("").trim_start_matches("error: ").to_owned();
            let help = match last.as_str() {
                last if last.contains("look-around") || last.contains("backreference") => Some(
                    "drumfire's regular expressions know neither look-around nor back-references".to_owned(),
                ),
                last if last.contains("size limit") => Some(
                    "repetitions of repetitions make it large: repeat less, or match a part of it".to_owned(),
                ),
                _ => None,
            };
            self.error(place, format!("not a regular expression: {last}"), help);
        }
    }
}
