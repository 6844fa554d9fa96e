//! x
use super::Loaded;
pub fn render(_: &Loaded) -> String { String::new() }
