//! `update`: moves, and answers who is near.

use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::json;
use socketio_server::{Socket, SocketId};

use super::store::place_on_map;
use crate::event::{Store, UpdateAnswer};
use crate::presence::{PeopleQuery, PersonRow};
use crate::privacy::GRID_M;
use crate::refusal::Refusal;
use crate::worker::{Chat, GeoAnswers, PeopleQuestion, Reply, WorkerMessage};
use crate::world::World;

/// Most people in a `geo` answer.
const MAX_PEOPLE: usize = 200;
const ANSWER_EVERY: Duration = Duration::from_secs(1);

pub(crate) fn handle(
    chat: &Chat,
    reply: &Reply<'_>,
    answer: UpdateAnswer,
    store: &Store,
) -> Result<(), Refusal> {
    if answer == UpdateAnswer::Direct {
        return Err(super::unknown::not_built("update direct"));
    }
    let binding = chat.authorize(reply.socket, store.token.as_deref(), store.test)?;
    let placed = place_on_map(chat, reply.socket, binding, store);
    reply.ok(&json!({ "status": 200, "message": "Updated", "result": {
        "idx": placed.idx, "radius": placed.radius_m,
    }}));
    if answer == UpdateAnswer::Geo {
        answer_geo(chat, reply.socket);
    }
    Ok(())
}

/// Answers now, or when a second has passed since the last answer; only the latest place counts.
fn answer_geo(chat: &Chat, socket: &Rc<Socket<Chat>>) {
    let geo = &socket.data().geo;
    let GeoAnswers { last, waiting } = geo.get();
    if waiting {
        return;
    }
    let delay = last.map_or(Duration::ZERO, |last| ANSWER_EVERY.saturating_sub(last.elapsed()));
    geo.set(GeoAnswers { last, waiting: true });
    let Some(worker) = chat.sockets.borrow().upgrade() else { return };
    let chat = worker.application().clone();
    let id = socket.id();
    tokio::task::spawn_local(async move {
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        send_geo(&chat, id).await;
    });
}

async fn send_geo(chat: &Rc<Chat>, id: SocketId) {
    let Some((world, query)) = query_for(chat, id) else { return };
    let mut rows = gather(chat, world, &query).await;
    // Several devices of one user are one person; inside any of their circles is inside.
    rows.sort_by_cached_key(|row| (row.idx.to_string(), !row.inside));
    rows.dedup_by(|a, b| a.idx == b.idx);
    rows.truncate(MAX_PEOPLE);
    if let (Some(socket), Ok(body)) = (chat.socket(id), serde_json::to_string(&rows)) {
        socket.emit("geo", &body);
    }
}

fn query_for(chat: &Rc<Chat>, id: SocketId) -> Option<(World, PeopleQuery)> {
    let socket = chat.socket(id)?;
    let connection = socket.data();
    connection.geo.set(GeoAnswers { last: Some(Instant::now()), waiting: false });
    let binding = connection.binding.borrow().clone()?;
    let shard = chat.shard(binding.world).borrow();
    let me = shard.get(binding.slot?)?;
    let query = PeopleQuery {
        world: binding.world,
        centre: geo_index::snap(me.position, GRID_M),
        radius_m: me.radius_m.max(GRID_M),
        limit: MAX_PEOPLE,
        now_ms: crate::clock::now_ms(),
    };
    Some((binding.world, query))
}

/// Asks every worker; each answers from its own shard.
async fn gather(chat: &Rc<Chat>, world: World, query: &PeopleQuery) -> Vec<PersonRow> {
    let mut answers = Vec::new();
    for (number, worker) in chat.shared.workers.iter().enumerate() {
        if number == chat.number {
            continue;
        }
        let (answer, answered) = tokio::sync::oneshot::channel();
        let question = PeopleQuestion { query: query.clone(), answer };
        if worker.send(WorkerMessage::People(question)).is_ok() {
            answers.push(answered);
        }
    }
    let mut rows = chat.shard(world).borrow().people_near(query, &chat.shared.handles);
    for answer in answers {
        rows.extend(answer.await.unwrap_or_default());
    }
    rows
}
