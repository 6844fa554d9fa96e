//! Who is on the map on this worker: one shard of each world's index and the people in it.

use std::rc::Rc;
use std::sync::Arc;

use geo_index::{Index, InterestHandle, Position};
use serde::Serialize;
use slab::Slab;
use socketio_server::{Frame, Socket};

use crate::delivery::Publication;
use crate::privacy::{GRID_M, Handles};
use crate::storage::Author;
use crate::worker::Chat;
use crate::world::World;

/// Somebody on the map: one connection that has sent `store`. What a message needs of it is in one line of the cache.
#[repr(C, align(64))]
pub(crate) struct Person {
    pub(crate) socket: Rc<Socket<Chat>>,
    pub(crate) reception: Reception,
    pub(crate) author: Author,
    pub(crate) position: Position,
    /// Hearing radius, metres, clamped.
    pub(crate) radius_m: f64,
}

/// Whether live messages go straight to the outbox.
pub(crate) enum Reception {
    Live,
    /// Catching up: live messages wait until the missed ones have been sent.
    Held(Vec<Arc<Publication>>),
}

/// Held messages beyond this mean a fetch that takes too long; the connection is closed as slow.
const MAX_HELD: usize = 4096;

/// What became of a push.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pushed {
    Sent,
    Held,
    HeldTooMany,
}

impl Person {
    pub(crate) fn receive(&mut self, publication: &Arc<Publication>, frame: &Frame) -> Pushed {
        match &mut self.reception {
            Reception::Live => {
                self.socket.push(frame);
                Pushed::Sent
            }
            Reception::Held(held) if held.len() < MAX_HELD => {
                held.push(publication.clone());
                Pushed::Held
            }
            Reception::Held(_) => Pushed::HeldTooMany,
        }
    }
}

/// One worker's people of one world.
pub(crate) struct Shard {
    index: Index,
    people: Slab<Person>,
    interest: InterestHandle,
}

impl Shard {
    pub(crate) fn new(interest: InterestHandle) -> Self {
        Self { index: Index::new(), people: Slab::new(), interest }
    }

    pub(crate) fn join(&mut self, person: Person) -> u32 {
        let (position, radius_m) = (person.position, person.radius_m);
        // Interest first: a message published from now on asks this worker.
        self.interest.add(position, radius_m);
        let slot = u32::try_from(self.people.insert(person)).unwrap_or(u32::MAX);
        self.index.insert(slot, position, radius_m);
        slot
    }

    pub(crate) fn move_to(&mut self, slot: u32, author: Author, position: Position, radius_m: f64) {
        let Some(person) = self.people.get_mut(slot as usize) else { return };
        let before = (person.position, person.radius_m);
        person.author = author;
        if before == (position, radius_m) {
            return;
        }
        (person.position, person.radius_m) = (position, radius_m);
        self.interest.add(position, radius_m);
        self.index.update(slot, position, radius_m);
        self.interest.remove(before.0, before.1);
    }

    pub(crate) fn leave(&mut self, slot: u32) {
        if let Some(person) = self.people.try_remove(slot as usize) {
            self.index.remove(slot);
            self.interest.remove(person.position, person.radius_m);
        }
    }

    pub(crate) fn get(&self, slot: u32) -> Option<&Person> {
        self.people.get(slot as usize)
    }

    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut Person> {
        self.people.get_mut(slot as usize)
    }

    /// Live messages wait from here on.
    pub(crate) fn hold(&mut self, slot: u32) {
        if let Some(person) = self.people.get_mut(slot as usize)
            && matches!(person.reception, Reception::Live)
        {
            person.reception = Reception::Held(Vec::new());
        }
    }

    /// Live messages go straight out again; what waited comes back, oldest first.
    pub(crate) fn release(&mut self, slot: u32) -> Vec<Arc<Publication>> {
        match self.people.get_mut(slot as usize).map(|person| &mut person.reception) {
            Some(reception) => match std::mem::replace(reception, Reception::Live) {
                Reception::Held(held) => held,
                Reception::Live => Vec::new(),
            },
            None => Vec::new(),
        }
    }

    /// Appends the slots of all whose circle holds the place.
    pub(crate) fn who_hears(&self, place: Position, into: &mut Vec<u32>) {
        self.index.who_hears(place, |slot| into.push(slot));
    }

    /// Appends the slots of all who stand within the circle.
    pub(crate) fn who_is_in(&self, centre: Position, radius_m: f64, into: &mut Vec<u32>) {
        self.index.who_is_in(centre, radius_m, |slot| into.push(slot));
    }

    /// The `geo` rows of this shard: positions snapped, at most `limit` people.
    pub(crate) fn people_near(&self, query: &PeopleQuery, handles: &Handles) -> Vec<PersonRow> {
        let mut slots = Vec::new();
        // Snapping moves a person at most half a grid's diagonal.
        self.who_is_in(query.centre, query.radius_m + GRID_M, &mut slots);
        let mut rows = Vec::new();
        for slot in slots {
            let Some(person) = self.get(slot) else { continue };
            let snapped = geo_index::snap(person.position, GRID_M);
            if !geo_index::circle_contains(query.centre, query.radius_m, snapped) {
                continue;
            }
            let inside = geo_index::circle_contains(snapped, person.radius_m.max(GRID_M), query.centre);
            rows.push(PersonRow::new(person, inside, query, handles));
            if rows.len() == query.limit {
                break;
            }
        }
        rows
    }
}

/// "Who is in my circle?", asked of every worker.
#[derive(Debug, Clone)]
pub(crate) struct PeopleQuery {
    pub(crate) world: World,
    /// Already snapped.
    pub(crate) centre: Position,
    /// At least the grid.
    pub(crate) radius_m: f64,
    pub(crate) limit: usize,
    pub(crate) now_ms: i64,
}

/// One row of a `geo` answer.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PersonRow {
    /// A user's number, or the handle of one who is anonymous.
    pub(crate) idx: serde_json::Value,
    nickname: String,
    avatar: Option<String>,
    anonymity: bool,
    /// I am inside their circle: they see what I write.
    pub(crate) inside: bool,
}

impl PersonRow {
    fn new(person: &Person, inside: bool, query: &PeopleQuery, handles: &Handles) -> Self {
        let shown = handles.shown(query.world, &person.author, person.position, query.now_ms);
        Self {
            idx: shown.idx,
            nickname: shown.nickname.into_owned(),
            avatar: shown.avatar.map(str::to_owned),
            anonymity: shown.anonymity,
            inside,
        }
    }
}
