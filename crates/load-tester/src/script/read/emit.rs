//! `emit` in all its spellings.

use super::*;

impl Reader<'_> {
    pub(super) fn emit(&mut self, step: &Node, node: &Node) -> Option<Action> {
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
        let namespace = self.namespace(namespace.map(|(node, _)| node))?;
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
}
