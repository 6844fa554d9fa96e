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
