//! `store`: joins the map; with `since`, catches up on what was missed without a gap or a double.
//!
//! Catching up: the connection is on the map at once, but what it would hear is held. A fence through the
//! store thread tells the last message published before; everything up to it is fetched, everything after
//! is among the held. Then the ack carries `missed`, and what was held and not among them follows.

use std::rc::Rc;
use std::sync::atomic::Ordering;

use serde_json::json;
use serde_json::value::RawValue;
use socketio_server::{AckId, Socket, SocketId};

use crate::delivery::{Cursor, result_json};
use crate::event::Store;
use crate::presence::{Person, Reception};
use crate::refusal::{Refusal, RefusalKind};
use crate::storage::{Missed, MissedQuery};
use crate::worker::{Binding, Chat, Reply, WorkerMessage};
use crate::world::World;

/// More than this many messages, or bytes of text, are not caught up: the client should load anew.
const MAX_MISSED: usize = 500;
const MAX_MISSED_BYTES: usize = 512 << 10;

pub(crate) fn handle(chat: &Chat, reply: &Reply<'_>, store: &Store) -> Result<(), Refusal> {
    let binding = chat.authorize(reply.socket, store.token.as_deref(), store.test)?;
    let world = binding.world;
    let placed = place_on_map(chat, reply.socket, binding, store);
    let world_store = chat.shared.stores.get(world);
    let catch_up = store.since.as_deref().zip(reply.ack);
    if let Some((since, ack)) = catch_up {
        let mut pending = reply.socket.data().catching_up.borrow_mut();
        if pending.is_some() {
            // The one before is still being answered.
            return Err(RefusalKind::TooManyEvents.into());
        }
        *pending = Some(CatchUp { since: Cursor::parse(since), ack });
        chat.shard(world).borrow_mut().hold(placed.slot);
        world_store.fence(chat.number, reply.socket.id())?;
        return Ok(());
    }
    if let Some(ack) = reply.ack {
        // Answered in order with the publications: what the cursor covers has been delivered before it.
        let noted = world_store.state.published.load(Ordering::SeqCst);
        let stored = Stored {
            world,
            socket: reply.socket.id(),
            ack,
            idx: placed.idx,
            radius_m: placed.radius_m,
            noted,
        };
        let _ = chat.shared.workers[chat.number].send(WorkerMessage::Stored(stored));
    }
    Ok(())
}

/// A `store` whose ack waits behind the publications its cursor covers.
#[derive(Debug)]
pub struct Stored {
    world: World,
    socket: SocketId,
    ack: AckId,
    idx: u64,
    radius_m: f64,
    noted: u64,
}

/// Everything up to `noted` has been delivered here.
pub(crate) fn acknowledge(chat: &Chat, stored: &Stored) {
    let Some(socket) = chat.socket(stored.socket) else { return };
    // A publication may have come between the note and this.
    let idx = stored.noted.max(chat.last_taken(stored.world));
    let epoch = chat.shared.stores.get(stored.world).state.epoch.to_string();
    let body = json!({ "status": 200, "message": "Stored", "result": {
        "idx": stored.idx,
        "radius": stored.radius_m,
        "cursor": Cursor { epoch, idx }.to_string(),
    }});
    socket.ack(stored.ack, &body.to_string());
}

/// A `store` with `since`, waiting for its fence.
#[derive(Debug)]
pub(crate) struct CatchUp {
    /// `None`: not a cursor of ours.
    since: Option<Cursor>,
    ack: AckId,
}

/// Where somebody has been put.
pub(crate) struct Placed {
    pub(crate) idx: u64,
    pub(crate) radius_m: f64,
    pub(crate) slot: u32,
}

/// Puts a connection on the map, or moves it.
pub(crate) fn place_on_map(
    chat: &Chat,
    socket: &Rc<Socket<Chat>>,
    mut binding: Binding,
    store: &Store,
) -> Placed {
    let radius_m = store.radius_m.min(chat.shared.rules.max_radius_m);
    describe(socket, &mut binding, store);
    let author = binding.author.clone();
    let mut shard = chat.shard(binding.world).borrow_mut();
    let slot = match binding.slot {
        Some(slot) => {
            shard.move_to(slot, author.clone(), store.position, radius_m);
            slot
        }
        None => {
            chat.joined(binding.world);
            shard.join(Person {
                socket: socket.clone(),
                author: author.clone(),
                position: store.position,
                radius_m,
                reception: Reception::Live,
            })
        }
    };
    binding.slot = Some(slot);
    *socket.data().binding.borrow_mut() = Some(binding);
    Placed { idx: author.idx, radius_m, slot }
}

/// Nickname, avatar and anonymity: the token's word goes first, `store` fills what it leaves open.
fn describe(socket: &Rc<Socket<Chat>>, binding: &mut Binding, store: &Store) {
    let verified = socket.data().verified.borrow();
    let claims = verified.as_ref().map(|(_, claims)| claims);
    let author = &mut binding.author;
    if let Some(nickname) = &store.nickname
        && claims.is_none_or(|claims| claims.nickname.is_none())
    {
        author.nickname = nickname.as_str().into();
    }
    if let Some(avatar) = &store.avatar
        && claims.is_none_or(|claims| claims.avatar.is_none())
    {
        author.avatar = Some(avatar.as_str().into());
    }
    if let Some(anonymity) = store.anonymity
        && claims.is_none_or(|claims| claims.anonymity.is_none())
    {
        author.anonymity = anonymity;
    }
}

/// The store has answered: everything up to `noted` is published, later messages are being held.
pub(crate) fn fence(chat: &Rc<Chat>, world: World, socket: SocketId, noted: u64) {
    let chat = chat.clone();
    tokio::task::spawn_local(async move { finish(&chat, world, socket, noted).await });
}

async fn finish(chat: &Rc<Chat>, world: World, id: SocketId, noted: u64) {
    let missed = fetch(chat, world, id, noted).await;
    // Gone meanwhile, or moved to another shard: nothing to tell.
    let Some(socket) = chat.socket(id) else { return };
    let Some(catch_up) = socket.data().catching_up.borrow_mut().take() else { return };
    let Some(slot) = socket.data().binding.borrow().as_ref().and_then(|binding| binding.slot) else { return };
    let (held, placed) = {
        let mut shard = chat.shard(world).borrow_mut();
        let held = shard.release(slot);
        let placed = shard.get(slot).map(|person| (person.author.idx, person.radius_m));
        (held, placed)
    };
    let Some((idx, radius_m)) = placed else { return };
    let store = chat.shared.stores.get(world);
    let recovered = missed.is_some();
    let metrics = &chat.shared.metrics;
    if recovered {
        metrics.caught_up.inc()
    } else {
        metrics.not_recovered.inc()
    };
    let missed = missed.unwrap_or_default();
    let rows: Vec<&RawValue> = missed.iter().map(|(_, row)| row.as_ref()).collect();
    let cursor = Cursor { epoch: store.state.epoch.to_string(), idx: noted }.to_string();
    let body = json!({ "status": 200, "message": "Stored", "result": {
        "idx": idx,
        "radius": radius_m,
        "cursor": cursor,
        "recovered": recovered,
        "missed": rows,
    }});
    socket.ack(catch_up.ack, &body.to_string());
    // What came before the cursor was heard on another connection, perhaps of a worker ahead of this one.
    let heard_to = catch_up.since.filter(|_| recovered).map_or(0, |since| since.idx);
    for publication in held {
        let idx = publication.stored.idx;
        let told = idx <= heard_to || missed.binary_search_by_key(&idx, |(idx, _)| *idx).is_ok();
        if !told {
            socket.push(&publication.new_msg);
        }
    }
}

/// Everything between the cursor and `noted` in this circle; `None`: it cannot be told whole.
async fn fetch(chat: &Rc<Chat>, world: World, id: SocketId, noted: u64) -> Option<Vec<(u64, Box<RawValue>)>> {
    let (query, epoch) = {
        let socket = chat.socket(id)?;
        let since = socket.data().catching_up.borrow().as_ref()?.since.clone()?;
        let epoch = chat.shared.stores.get(world).state.epoch.clone();
        if since.epoch != *epoch || since.idx > noted {
            return None;
        }
        let slot = socket.data().binding.borrow().as_ref()?.slot?;
        let shard = chat.shard(world).borrow();
        let person = shard.get(slot)?;
        let query = MissedQuery {
            after_idx: since.idx,
            up_to_idx: noted,
            centre: person.position,
            radius_m: person.radius_m,
            max_messages: MAX_MISSED,
            max_bytes: MAX_MISSED_BYTES,
        };
        (query, epoch)
    };
    match chat.shared.storages.get(world).missed(query).await {
        Ok(Missed::All(messages)) => Some(
            messages
                .into_iter()
                .map(|stored| {
                    let cursor = Cursor { epoch: epoch.to_string(), idx: stored.idx }.to_string();
                    (stored.idx, result_json(&stored, &cursor, &chat.shared.handles, world))
                })
                .collect(),
        ),
        Ok(Missed::TooMany | Missed::Forgotten) => None,
        Err(error) => {
            tracing::warn!(%error, world = world.name(), "a returning client could not be told what it missed");
            None
        }
    }
}
