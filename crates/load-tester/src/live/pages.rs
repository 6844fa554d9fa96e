//! What is shown: the report and the result file of the run so far.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use hyper::body::Bytes;

use super::{Shared, lock};
use crate::metrics::{Folded, merge_windows};
use crate::outcome::{Outcome, Window};
use crate::report::{Loaded, Slice, html, json};

/// The run so far, second by second.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Windows of seconds in which nothing changes any more: in figures for the page, deflated for the result.
    old: Vec<(Arc<Slice>, Folded)>,
    /// Settled seconds on their way into a window, as in the result of the whole run.
    settled: Vec<Window>,
    /// Seconds that are not yet in `old`, by their number.
    recent: BTreeMap<u64, (Arc<Slice>, Window)>,
    /// Everything else; put together when somebody looks.
    pub(super) latest: Option<Arc<Outcome>>,
    pub(super) taken: Option<Instant>,
    pub(super) over: bool,
    drawn: Option<(u64, Bytes)>,
}

impl History {
    pub(super) fn add(&mut self, newest: &Window, settled: Option<&Window>, per_window: usize) {
        let number = |window: &Window| window.start_s as u64;
        let kept = |window: &Window| (Arc::new(Slice::of_window(window)), window.clone());
        self.recent.insert(number(newest), kept(newest));
        let Some(settled) = settled else { return };
        self.recent.insert(number(settled), kept(settled));
        self.settled.push(settled.clone());
        if self.settled.len() >= per_window {
            let seconds = std::mem::take(&mut self.settled);
            if let Some(window) = merge_windows(&seconds) {
                self.old.push((Arc::new(Slice::of_window(&window)), Folded::of(window)));
            }
            for second in &seconds {
                self.recent.remove(&number(second));
            }
        }
    }
}

/// The report: of the run so far, or the last one.
pub(super) fn page(shared: &Shared) -> Option<Bytes> {
    let version = *shared.version.borrow();
    let (latest, slices, over) = {
        let history = lock(&shared.history);
        if let Some((drawn, page)) = &history.drawn
            && *drawn == version
        {
            return Some(page.clone());
        }
        let latest = Arc::clone(history.latest.as_ref()?);
        let recent = history.recent.values().map(|(slice, _)| Arc::clone(slice));
        let slices: Vec<Arc<Slice>> =
            history.old.iter().map(|(slice, _)| Arc::clone(slice)).chain(recent).collect();
        (latest, slices, history.over)
    };
    let loaded = if over {
        let mut loaded = Loaded::of(&latest);
        loaded.json = Some(json::to_string(&latest)).filter(|json| json.len() <= json::MOST_EMBEDDED_BYTES);
        loaded
    } else {
        Loaded::so_far(&latest, slices.iter().map(|slice| Slice::clone(slice)).collect())
    };
    let page = Bytes::from(html::render_live(&loaded, over));
    lock(&shared.history).drawn = Some((version, page.clone()));
    Some(page)
}

/// The result file, as it would read if the run had ended now.
pub(super) fn result(shared: &Shared) -> Option<Bytes> {
    let (latest, old, recent, over) = {
        let history = lock(&shared.history);
        let latest = Arc::clone(history.latest.as_ref()?);
        let old: Vec<Folded> = history.old.iter().map(|(_, folded)| folded.clone()).collect();
        let recent: Vec<Window> = history.recent.values().map(|(_, window)| window.clone()).collect();
        (latest, old, recent, history.over)
    };
    if over {
        return Some(Bytes::from(json::to_string(&latest)));
    }
    let mut outcome = Outcome::clone(&latest);
    outcome.seconds = old.into_iter().map(Folded::unfold).chain(recent).collect();
    Some(Bytes::from(json::to_string(&outcome)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(start_s: f64, users: u64) -> Window {
        Window {
            start_s,
            length_s: 1.0,
            counters: BTreeMap::from([("vusers.created".to_owned(), users)]),
            histograms: BTreeMap::new(),
            concurrent_users: 0,
            connections: 0,
        }
    }

    #[test]
    fn seconds_that_settle_are_folded_as_in_the_result_and_none_is_told_twice() {
        let mut history = History::default();
        for i in 0..37 {
            // What is settled is known better than when it was new.
            let settled = (i >= 7).then(|| second(f64::from(i - 7), 3));
            history.add(&second(f64::from(i), 2), settled.as_ref(), 10);
        }
        let old: Vec<(f64, f64, u64)> =
            history.old.iter().map(|(slice, _)| (slice.start_s, slice.length_s, slice.launched())).collect();
        assert_eq!(old, [(0.0, 10.0, 30), (10.0, 10.0, 30), (20.0, 10.0, 30)]);
        let recent: Vec<(u64, u64)> =
            history.recent.iter().map(|(number, (slice, _))| (*number, slice.launched())).collect();
        assert_eq!(recent, [(30, 2), (31, 2), (32, 2), (33, 2), (34, 2), (35, 2), (36, 2)]);
        let unfolded = history.old[1].1.clone().unfold();
        assert_eq!((unfolded.start_s, unfolded.counters["vusers.created"]), (10.0, 30));
    }
}
