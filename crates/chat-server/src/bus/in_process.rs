//! The bus of a single node: one queue per worker, and a table that tells who need not be asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use geo_index::Interest;
use tokio::sync::mpsc::UnboundedSender;

use super::Bus;
use crate::delivery::Envelope;
use crate::worker::WorkerMessage;
use crate::world::PerWorld;

/// Workers behind unbounded queues: what waits there was stored and acknowledged, so it may not be
/// dropped; outboxes behind them are bounded, and limits stand before the store.
#[derive(Debug)]
pub struct InProcessBus {
    workers: Vec<UnboundedSender<WorkerMessage>>,
    /// Publications sent to each worker and not taken up by it yet.
    waiting: Vec<Arc<AtomicUsize>>,
    interest: PerWorld<Arc<Interest>>,
}

impl InProcessBus {
    /// `waiting`: one counter per worker, which the worker counts down.
    pub fn new(
        workers: Vec<UnboundedSender<WorkerMessage>>,
        waiting: Vec<Arc<AtomicUsize>>,
        interest: PerWorld<Arc<Interest>>,
    ) -> Self {
        Self { workers, waiting, interest }
    }

    fn send(&self, worker: usize, group: Vec<Envelope>) {
        self.waiting[worker].fetch_add(group.len(), Ordering::Relaxed);
        // Closed only while shutting down, after the worker's sockets are gone.
        let _ = self.workers[worker].send(WorkerMessage::Published(group));
    }

    /// Bit w: worker w gets this envelope.
    fn mask(&self, envelope: &Envelope) -> u64 {
        let publication = &envelope.publication;
        if publication.reach_m.is_some() {
            // Whoever stands within reach is alerted, whatever their own radius: every worker looks.
            return u64::MAX;
        }
        let interest = self.interest.get(envelope.world);
        let mut mask = interest.listeners(publication.stored.message.position);
        if let Some(origin) = envelope.origin {
            mask |= 1 << origin.worker;
        }
        mask
    }
}

impl Bus for InProcessBus {
    fn publish(&self, group: Vec<Envelope>) {
        if self.workers.len() == 1 {
            // Somebody may join while the mask is read; a lone worker is asked anyway.
            self.send(0, group);
            return;
        }
        let masks: Vec<u64> = group.iter().map(|envelope| self.mask(envelope)).collect();
        for worker in 0..self.workers.len() {
            let share: Vec<Envelope> = group
                .iter()
                .zip(&masks)
                .filter(|(_, mask)| **mask & (1 << worker) != 0)
                .map(|(envelope, _)| envelope.clone())
                .collect();
            if !share.is_empty() {
                self.send(worker, share);
            }
        }
    }

    fn backlog(&self) -> usize {
        self.waiting.iter().map(|waiting| waiting.load(Ordering::Relaxed)).max().unwrap_or(0)
    }

    fn healthy(&self) -> BoxFuture<'static, bool> {
        let healthy = self.workers.iter().all(|queue| !queue.is_closed());
        futures_util::future::ready(healthy).boxed()
    }
}
