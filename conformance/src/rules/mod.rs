//! The one list of rules: one folder for each layer, one file for each subject; a case stands below its rule.

use crate::rule::{Rule, Section, Spec};

mod clients;
mod engineio;
mod socketio;
mod websocket;

/// All rules, in the order of the specifications.
pub fn sections() -> Vec<&'static Section> {
    let parts = [engineio::SECTIONS, socketio::SECTIONS, websocket::SECTIONS, clients::SECTIONS];
    let mut sections: Vec<_> = parts.into_iter().flatten().copied().collect();
    sections.sort_by_key(|section| section.spec);
    sections
}

/// The rules of one specification with their sections.
pub fn of(spec: Spec) -> impl Iterator<Item = (&'static Section, &'static Rule)> {
    sections()
        .into_iter()
        .filter(move |section| section.spec == spec)
        .flat_map(|section| section.rules.iter().map(move |rule| (section, rule)))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_rules_are_sentences() {
        for spec in Spec::ALL {
            let mut names = HashSet::new();
            assert!(of(spec).count() > 0);
            for (section, rule) in of(spec) {
                assert!(names.insert((section.file, rule.name)), "{} twice in {}", rule.name, spec.name());
                assert!(rule.text.ends_with('.'), "{}: a rule is a sentence", rule.name);
                assert!(!rule.answer.is_empty(), "{}: what must come back?", rule.name);
            }
        }
    }
}
