//! Honest leftovers.

use crate::refusal::{Refusal, RefusalKind};

pub(crate) fn unknown(name: &str) -> Refusal {
    Refusal::with_message(
        RefusalKind::UnknownEvent,
        format!("no event {name:?}; there are store, update and save_msg"),
    )
}

pub(crate) fn not_built(name: &str) -> Refusal {
    Refusal::with_message(RefusalKind::NotBuilt, format!("{name} is not available in this version"))
}
