//! The variables of one virtual user, over what all users share.

use std::cell::OnceCell;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde_json::Value;

use super::model::{ListenerGroup, Payload, Script};

/// What one user's templates see: its own values first, then the shared ones.
#[derive(Debug, Clone)]
pub struct Vars {
    shared: Arc<SharedVars>,
    own: Vec<(Arc<str>, Value)>,
    /// `$uuid` is made when first asked for; most scripts never do.
    uuid: OnceCell<Box<Value>>,
    uuid_bits: u128,
}

/// What every user of a run sees, worked out once. Precedence as in Artillery, last wins: built-ins, what `before`
/// captured, CSV rows, `config.variables`, `$uuid`; then whatever the user's own steps set.
#[derive(Debug, Default)]
pub struct SharedVars {
    constants: FxHashMap<Arc<str>, Value>,
    /// Lists: one element picked for each user.
    choices: Vec<(Arc<str>, Vec<Value>)>,
    rows: Vec<(Vec<Option<Arc<str>>>, Payload)>,
}

impl SharedVars {
    /// `captured`: what the script's `before` left behind.
    pub fn new(script: &Script, captured: &[(Arc<str>, Value)]) -> Arc<Self> {
        let mut shared = Self::default();
        for (name, value) in &script.built_ins {
            shared.constants.insert(name.as_str().into(), value.clone());
        }
        for (name, value) in captured {
            shared.constants.insert(Arc::clone(name), value.clone());
        }
        for payload in &script.config.payloads {
            if let Some(name) = &payload.load_all_as {
                shared.constants.insert(name.as_str().into(), payload.as_value());
            }
        }
        for (name, values) in &script.config.variables {
            match &values[..] {
                [] => {}
                [value] => {
                    shared.constants.insert(name.as_str().into(), value.clone());
                }
                several => shared.choices.push((name.as_str().into(), several.to_vec())),
            }
        }
        let masked = |field: &String| script.config.variables.iter().any(|(name, _)| name == field);
        for payload in script.config.payloads.iter().filter(|payload| payload.load_all_as.is_none()) {
            let names = payload.fields.iter().map(|f| (!masked(f)).then(|| f.as_str().into())).collect();
            shared.rows.push((names, payload.clone()));
        }
        Arc::new(shared)
    }

    /// The variables of the user that arrives as number `arrival` of the run (from 0).
    pub fn user(self: &Arc<Self>, arrival: u64, rng: &mut fastrand::Rng) -> Vars {
        let mut vars = self.bare(rng);
        for (names, payload) in &self.rows {
            if let Some(row) = payload.row(arrival, rng) {
                for (name, value) in names.iter().zip(row) {
                    if let Some(name) = name {
                        vars.set(Arc::clone(name), value.clone());
                    }
                }
            }
        }
        for (name, values) in &self.choices {
            vars.set(Arc::clone(name), values[rng.usize(..values.len())].clone());
        }
        vars
    }

    /// The variables of listener `index` of a group: its rows in order, `config.variables`, no rows of `config.payload`.
    pub fn listener(self: &Arc<Self>, group: &ListenerGroup, index: usize, rng: &mut fastrand::Rng) -> Vars {
        let mut vars = self.bare(rng);
        for (name, values) in &self.choices {
            vars.set(Arc::clone(name), values[rng.usize(..values.len())].clone());
        }
        for payload in &group.payloads {
            if let Some(name) = &payload.load_all_as {
                vars.set(name.as_str(), payload.as_value());
            } else if let Some(row) = payload.row(index as u64, rng) {
                for (name, value) in payload.fields.iter().zip(row) {
                    vars.set(name.as_str(), value.clone());
                }
            }
        }
        vars
    }

    fn bare(self: &Arc<Self>, rng: &mut fastrand::Rng) -> Vars {
        Vars { shared: Arc::clone(self), own: Vec::new(), uuid: OnceCell::new(), uuid_bits: rng.u128(..) }
    }
}

impl Vars {
    /// Variables over nothing shared, for tests and for what runs before there are users.
    pub fn empty() -> Self {
        Arc::new(SharedVars::default()).bare(&mut fastrand::Rng::with_seed(0))
    }

    pub fn get(&self, name: &str) -> Option<&Value> {
        if let Some((_, value)) = self.own.iter().rev().find(|(own, _)| &**own == name) {
            return Some(value);
        }
        if name == "$uuid" {
            return Some(self.uuid.get_or_init(|| Box::new(Value::String(uuid(self.uuid_bits)))));
        }
        self.shared.constants.get(name)
    }

    /// Sets or replaces one of the user's own values.
    pub fn set(&mut self, name: impl AsRef<str> + Into<Arc<str>>, value: Value) {
        match self.own.iter_mut().find(|(own, _)| **own == *name.as_ref()) {
            Some((_, old)) => *old = value,
            None => self.own.push((name.into(), value)),
        }
    }

    /// What this user set or was given, without the shared values; `before`'s go into [`SharedVars::new`].
    pub fn own(&self) -> &[(Arc<str>, Value)] {
        &self.own
    }
}

/// A version 4 UUID from random bits.
fn uuid(bits: u128) -> String {
    let bits = bits & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
