//! From the store to the workers that have anyone near; next, from node to node.

mod in_process;

use futures_util::future::BoxFuture;

pub use in_process::InProcessBus;

use crate::delivery::Envelope;

/// Carries publications. One world's envelopes arrive at each worker in the order they were published.
pub trait Bus: Send + Sync + 'static {
    /// Hands over a group of one world's publications. Never blocks on a slow worker.
    fn publish(&self, group: Vec<Envelope>);

    /// Publications that the slowest worker has not taken up yet. Too many, and the store refuses new
    /// messages instead of promising what will be seen only much later.
    fn backlog(&self) -> usize;

    /// A worker (or node) that cannot take more, or nothing at all, is told about here; for `/readyz`.
    fn healthy(&self) -> BoxFuture<'static, bool>;
}
