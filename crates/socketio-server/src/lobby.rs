//! Connections on which no request is being answered: accepted and silent, half a head sent, an answer on its
//! way out, or idle between two requests. Their number is bounded; beyond, whoever has waited longest goes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// The waiting connections of one worker.
#[derive(Debug)]
pub(crate) struct Lobby {
    /// In the order in which they came, or came back from an answer.
    guests: RefCell<BTreeMap<u64, Rc<Guest>>>,
    next: Cell<u64>,
    most: usize,
}

/// One HTTP connection, as the lobby sees it.
#[derive(Debug, Default)]
pub(crate) struct Guest {
    /// Its number while it waits, and since when.
    waiting: Cell<Option<(u64, Instant)>>,
    /// A request of it is being answered.
    answering: Cell<bool>,
    turned_out: Notify,
}

impl Lobby {
    /// A lobby for `most` connections, at least one.
    pub(crate) fn new(most: usize) -> Self {
        Self { guests: RefCell::default(), next: Cell::new(0), most: most.max(1) }
    }

    /// Puts a connection behind all who wait. Turns out the first of them when it is one too many.
    pub(crate) fn enter(&self, guest: &Rc<Guest>) {
        self.leave(guest);
        guest.answering.set(false);
        let number = self.next.get();
        self.next.set(number + 1);
        guest.waiting.set(Some((number, Instant::now())));
        let mut guests = self.guests.borrow_mut();
        guests.insert(number, Rc::clone(guest));
        if guests.len() > self.most
            && let Some((_, first)) = guests.pop_first()
        {
            first.waiting.set(None);
            first.turned_out.notify_one();
        }
    }

    /// The connection's request is being answered, or it is gone.
    pub(crate) fn leave(&self, guest: &Guest) {
        guest.answering.set(true);
        if let Some((number, _)) = guest.waiting.take() {
            self.guests.borrow_mut().remove(&number);
        }
    }
}

impl Guest {
    pub(crate) fn is_answering(&self) -> bool {
        self.answering.get()
    }

    /// Waits until the lobby needs the place.
    pub(crate) async fn turned_out(&self) {
        self.turned_out.notified().await;
    }

    /// Waits until it has waited in one go for as long as `limit`.
    pub(crate) async fn overstayed(&self, limit: Duration) {
        loop {
            let since = self.waiting.get().map_or_else(Instant::now, |(_, since)| since);
            sleep_until(since + limit).await;
            if self.waiting.get().is_some_and(|(_, since)| since.elapsed() >= limit) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn is_out(guest: &Guest) -> bool {
        guest.turned_out().now_or_never().is_some()
    }

    #[test]
    fn whoever_has_waited_longest_goes_first() {
        let lobby = Lobby::new(2);
        let guests: Vec<Rc<Guest>> = (0..4).map(|_| Rc::default()).collect();
        lobby.enter(&guests[0]);
        lobby.enter(&guests[1]);
        // Its request is answered meanwhile, and it comes back as the last.
        lobby.leave(&guests[0]);
        lobby.enter(&guests[2]);
        assert!(guests.iter().all(|guest| !is_out(guest)));
        lobby.enter(&guests[0]);
        assert!(is_out(&guests[1]) && !is_out(&guests[0]) && !is_out(&guests[2]));
        lobby.enter(&guests[3]);
        assert!(is_out(&guests[2]) && !is_out(&guests[0]));
        assert_eq!(lobby.guests.borrow().len(), 2);
    }

    #[tokio::test]
    async fn time_in_the_lobby_counts_in_one_go() {
        let lobby = Lobby::new(2);
        let guest = Rc::new(Guest::default());
        let start = Instant::now();
        lobby.enter(&guest);
        tokio::time::sleep(Duration::from_millis(30)).await;
        lobby.enter(&guest);
        guest.overstayed(Duration::from_millis(50)).await;
        assert!(start.elapsed() >= Duration::from_millis(80));
    }
}
