//! One file per event: what it does and how it answers.

pub(crate) mod save_msg;
pub(crate) mod store;
pub(crate) mod unknown;
pub(crate) mod update;
