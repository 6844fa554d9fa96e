//! A second storage: in memory, slow, several batches in flight, answered out of order. What becomes of
//! a message stands in its text: see [`Verdict`].

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use chat_server::storage::{Missed, MissedQuery, NewMessage, Outcome, Storage, StorageError, StoredMessage};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::{oneshot, watch};

use super::LONG;

#[derive(Clone)]
pub struct SlowStorage {
    inner: Arc<Inner>,
}

struct Inner {
    epoch: Arc<str>,
    next_idx: AtomicU64,
    rows: Mutex<Vec<StoredMessage>>,
    /// When the batch of a message was answered, by its text.
    answered: Mutex<HashMap<String, Instant>>,
    gated: AtomicBool,
    /// Batches that wait for [`SlowStorage::answer`]; `None` once answered.
    gates: Mutex<Vec<Option<oneshot::Sender<()>>>>,
    /// The texts of each gated batch.
    arrived: watch::Sender<Vec<Vec<String>>>,
    pause_ms: RangeInclusive<u64>,
    patience: Duration,
    works: AtomicBool,
    calls: AtomicUsize,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
    latest_answered: AtomicUsize,
    reordered: AtomicUsize,
}

/// How a message's text begins says what becomes of it.
#[derive(Clone, Copy, PartialEq)]
enum Verdict {
    Stored,
    /// `refuse ...`
    Refused,
    /// `unknown kept ...`: nobody is told, but it is there.
    UnknownKept,
    /// `unknown lost ...`
    UnknownLost,
    /// `short ...`: the answer ends before this message.
    Short,
}

fn verdict(text: &str) -> Verdict {
    let starts = [
        ("refuse ", Verdict::Refused),
        ("unknown kept ", Verdict::UnknownKept),
        ("unknown lost ", Verdict::UnknownLost),
        ("short ", Verdict::Short),
    ];
    starts.iter().find(|(start, _)| text.starts_with(start)).map_or(Verdict::Stored, |(_, verdict)| *verdict)
}

impl SlowStorage {
    /// Every batch takes 1 to 30 ms, whatever the others take.
    pub fn new() -> Self {
        Self::with_patience(LONG * 2)
    }

    /// A batch that hangs this long is given up by the server.
    pub fn with_patience(patience: Duration) -> Self {
        Self {
            inner: Arc::new(Inner {
                epoch: format!("{:016x}", fastrand::u64(..)).into(),
                next_idx: AtomicU64::new(1),
                rows: Mutex::default(),
                answered: Mutex::default(),
                gated: AtomicBool::new(false),
                gates: Mutex::default(),
                arrived: watch::Sender::default(),
                pause_ms: 1..=30,
                patience,
                works: AtomicBool::new(true),
                calls: AtomicUsize::new(0),
                in_flight: AtomicUsize::new(0),
                most_in_flight: AtomicUsize::new(0),
                latest_answered: AtomicUsize::new(0),
                reordered: AtomicUsize::new(0),
            }),
        }
    }

    /// From now on batches wait for [`SlowStorage::answer`].
    pub fn gate(&self) {
        self.inner.gated.store(true, Ordering::SeqCst);
    }

    /// No more gates for those who come; the batches that wait go on waiting.
    pub fn ungate(&self) {
        self.inner.gated.store(false, Ordering::SeqCst);
    }

    /// No more gates; whoever waits is answered, the last first.
    pub fn open_all(&self) {
        let mut gates = lock(&self.inner.gates);
        self.ungate();
        for gate in gates.iter_mut().rev().filter_map(Option::take) {
            let _ = gate.send(());
        }
    }

    /// Waits until `count` gated batches have arrived in all; gives their texts.
    pub async fn arrived(&self, count: usize) -> Vec<Vec<String>> {
        let mut arrived = self.inner.arrived.subscribe();
        let waiting = arrived.wait_for(|batches| batches.len() >= count);
        tokio::time::timeout(LONG, waiting).await.expect("a batch to arrive").unwrap().clone()
    }

    /// How many gated batches have arrived so far.
    pub fn arrived_count(&self) -> usize {
        self.inner.arrived.borrow().len()
    }

    /// Lets a gated batch (counted from 0) be answered.
    pub fn answer(&self, batch: usize) {
        let gate = lock(&self.inner.gates)[batch].take().expect("answered once");
        // Given up by the server: then nobody waits.
        let _ = gate.send(());
    }

    /// What [`Storage::probe`] answers.
    pub fn set_works(&self, works: bool) {
        self.inner.works.store(works, Ordering::SeqCst);
    }

    /// The texts kept, in order of `idx`.
    pub fn kept(&self) -> Vec<String> {
        let mut rows: Vec<_> =
            lock(&self.inner.rows).iter().map(|row| (row.idx, row.message.contents.clone())).collect();
        rows.sort();
        rows.into_iter().map(|(_, text)| text).collect()
    }

    pub fn answered_at(&self, text: &str) -> Option<Instant> {
        lock(&self.inner.answered).get(text).copied()
    }

    /// Most batches in flight at once, and how many were answered after a later one.
    pub fn disorder(&self) -> (usize, usize) {
        (self.inner.most_in_flight.load(Ordering::SeqCst), self.inner.reordered.load(Ordering::SeqCst))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

impl Inner {
    fn answer(&self, call: usize, batch: Vec<StoredMessage>) -> Vec<Outcome> {
        let latest = self.latest_answered.fetch_max(call, Ordering::SeqCst);
        self.reordered.fetch_add(usize::from(latest > call), Ordering::SeqCst);
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut is_short = false;
        for row in batch {
            let text = row.message.contents.clone();
            let verdict = verdict(&text);
            is_short |= verdict == Verdict::Short;
            let idx = row.idx;
            if matches!(verdict, Verdict::Stored | Verdict::UnknownKept) {
                lock(&self.rows).push(row);
            }
            lock(&self.answered).insert(text, Instant::now());
            if !is_short {
                outcomes.push(match verdict {
                    Verdict::Stored => Outcome::Stored(idx),
                    Verdict::Refused => Outcome::Refused("told to refuse".into()),
                    _ => Outcome::Unknown("told not to know".into()),
                });
            }
        }
        outcomes
    }
}

impl Storage for SlowStorage {
    fn save(&self, batch: Vec<Arc<NewMessage>>) -> BoxFuture<'static, Vec<Outcome>> {
        let inner = self.inner.clone();
        let call = inner.calls.fetch_add(1, Ordering::SeqCst);
        let in_flight = inner.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        inner.most_in_flight.fetch_max(in_flight, Ordering::SeqCst);
        let texts: Vec<String> = batch.iter().map(|message| message.contents.clone()).collect();
        let batch: Vec<StoredMessage> = batch
            .into_iter()
            // With gaps, as promised.
            .map(|message| StoredMessage {
                idx: inner.next_idx.fetch_add(1 + fastrand::u64(0..3), Ordering::SeqCst),
                message,
            })
            .collect();
        let mut gates = lock(&inner.gates);
        let gate = inner.gated.load(Ordering::SeqCst).then(|| {
            let (open, opened) = oneshot::channel();
            gates.push(Some(open));
            inner.arrived.send_modify(|arrived| arrived.push(texts));
            opened
        });
        drop(gates);
        let pause = Duration::from_millis(fastrand::u64(inner.pause_ms.clone()));
        async move {
            match gate {
                Some(gate) => gate.await.expect("the storage lives as long as the server"),
                None => tokio::time::sleep(pause).await,
            }
            inner.answer(call, batch)
        }
        .boxed()
    }

    fn missed(&self, query: MissedQuery) -> BoxFuture<'static, Result<Missed, StorageError>> {
        let inner = self.inner.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(inner.pause_ms.clone()))).await;
            let mut found: Vec<StoredMessage> = lock(&inner.rows)
                .iter()
                .filter(|row| row.idx > query.after_idx && row.idx <= query.up_to_idx)
                .filter(|row| geo_index::circle_contains(query.centre, query.radius_m, row.message.position))
                .cloned()
                .collect();
            found.sort_by_key(|row| row.idx);
            Ok(if found.len() > query.max_messages { Missed::TooMany } else { Missed::All(found) })
        }
        .boxed()
    }

    fn note(&self, _now_ms: i64, _set_ms: i64) -> BoxFuture<'static, Result<(), StorageError>> {
        futures_util::future::ready(Ok(())).boxed()
    }

    fn noted_ms(&self) -> Option<i64> {
        None
    }

    fn forget_before(&self, _noted_ms: i64) -> BoxFuture<'static, Result<u64, StorageError>> {
        futures_util::future::ready(Ok(0)).boxed()
    }

    fn probe(&self) -> BoxFuture<'static, Result<(), StorageError>> {
        let works = self.inner.works.load(Ordering::SeqCst);
        let answer = works.then_some(()).ok_or_else(|| StorageError::new("probing", "told not to work"));
        futures_util::future::ready(answer).boxed()
    }

    fn patience(&self) -> Duration {
        self.inner.patience
    }

    fn epoch(&self) -> Arc<str> {
        self.inner.epoch.clone()
    }

    fn last_idx(&self) -> u64 {
        0
    }
}
