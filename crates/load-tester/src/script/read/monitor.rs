//! `config.monitor`: Prometheus endpoints read while the load runs.

use super::*;

/// More of them would be a monitoring system.
const MOST_ENDPOINTS: usize = 32;
const MOST_PATTERNS: usize = 100;

impl Reader<'_> {
    pub(super) fn monitors(&mut self, node: &Node) -> Vec<MonitorConfig> {
        let nodes = list_of(node);
        if nodes.len() > MOST_ENDPOINTS {
            self.error(node.place, format!("more than {MOST_ENDPOINTS} endpoints"), None);
            return Vec::new();
        }
        nodes.iter().filter_map(|node| self.monitor(node)).collect()
    }

    fn monitor(&mut self, node: &Node) -> Option<MonitorConfig> {
        if !self.is_map(node, "an endpoint of `monitor`") {
            return None;
        }
        self.check_keys(node, Section::Monitor);
        let Some(url_node) = node.get("url").filter(|url| !url.is_null()) else {
            self.error(
                node.place,
                "this endpoint has no `url`",
                "e.g. `url: http://127.0.0.1:9013/metrics`".to_owned(),
            );
            return None;
        };
        let url = self.early_text(url_node, "`url`")?;
        let known = url::Url::parse(&url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if known.is_none() {
            let help = if url.contains("://") {
                None
            } else if url.starts_with('/') {
                Some(format!("with a host: `http://127.0.0.1:9013{url}`"))
            } else {
                Some(format!("perhaps `http://{url}`"))
            };
            self.error(url_node.place, format!("`{url}` is no address of metrics"), help);
            return None;
        }
        let name = node.get("name").filter(|name| !name.is_null());
        let name = name.and_then(|name| self.early_text(name, "`name`"));
        let mut series = Vec::new();
        if let Some(node) = node.get("series").filter(|series| !series.is_null()) {
            for pattern in list_of(node).iter().take(MOST_PATTERNS + 1) {
                series.extend(self.early_text(pattern, "a series"));
            }
            if series.len() > MOST_PATTERNS {
                self.error(
                    node.place,
                    format!("more than {MOST_PATTERNS} series"),
                    "use `*` in their names".to_owned(),
                );
            }
        }
        let mut every = Duration::from_secs(1);
        if let Some(node) = node.get("every").filter(|every| !every.is_null()) {
            every = self.duration(node, "`every`")?;
            if every < Duration::from_secs(1) {
                self.error(node.place, "`every` is at least 1s", None);
            }
        }
        Some(MonitorConfig { url, name, series, every })
    }
}
