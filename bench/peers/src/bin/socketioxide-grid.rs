//! The chat's events on socketioxide, as one would write them today: a grid in memory, one emit to the list of hearers,
//! the token verified once a connection. Stores nothing.
//!
//! `JWT_SECRET=... socketioxide-grid PORT`

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use axum::Router;
use axum::routing::get;
use axum::serve::ListenerExt as _;
use bench_peers::grid::{Grid, Person};
use bench_peers::{Author, NewMsg, SaveMsg, Store};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::json;
use socketioxide::SocketIo;
use socketioxide::extract::{AckSender, Data, SocketRef};

/// The default, 128, loses deliveries at these loads.
const PACKETS_THAT_MAY_WAIT: usize = 4_096;

#[derive(Debug, Clone, Deserialize)]
struct Claims {
    idx: u64,
    nickname: Option<String>,
    avatar: Option<String>,
}

/// People are found by the room that each connection has for itself.
struct Chat {
    grid: RwLock<Grid<&'static str>>,
    messages: AtomicU64,
    key: DecodingKey,
}

struct Connection {
    room: &'static str,
    /// The token that was found good, and whose it is.
    user: OnceLock<(String, Claims)>,
}

#[tokio::main]
async fn main() {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).expect("socketioxide-grid PORT");
    let secret =
        std::env::var("JWT_SECRET").expect("JWT_SECRET must be set: the secret that tokens are signed with");
    let chat = Arc::new(Chat {
        grid: RwLock::default(),
        messages: AtomicU64::new(0),
        key: DecodingKey::from_secret(secret.as_bytes()),
    });
    let (layer, io) = SocketIo::builder().max_buffer_size(PACKETS_THAT_MAY_WAIT).build_layer();
    let all = io.clone();
    // Not an async closure, which would run as a task of its own: what a client sends at once would find no handler.
    io.ns("/", move |socket: SocketRef| {
        connected(&socket, &all, &chat);
        std::future::ready(())
    });

    let app = Router::new().route("/", get(async || "socketioxide")).layer(layer);
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.expect("a free port");
    println!("listening on 127.0.0.1:{port}");
    let listener = listener.tap_io(|stream| stream.set_nodelay(true).expect("a TCP socket"));
    axum::serve(listener, app).await.expect("serves");
}

fn connected(socket: &SocketRef, io: &SocketIo, chat: &Arc<Chat>) {
    // A room's name has to live as long as the program or be copied at each emit.
    let room: &'static str = Box::leak(socket.id.to_string().into_boxed_str());
    socket.join(room);
    let me = Arc::new(Connection { room, user: OnceLock::new() });

    let (chat_of, my) = (Arc::clone(chat), Arc::clone(&me));
    socket.on("store", async move |Data(store): Data<Store>, ack: AckSender| {
        let Some(claims) = my.user(&store.token, &chat_of.key) else { return refuse(ack) };
        let [lng, lat] = store.position;
        let person = Person { lng: lng.0, lat: lat.0, radius: store.radius.0 };
        chat_of.grid.write().unwrap_or_else(PoisonError::into_inner).put(my.room, person);
        let answer = json!({"status": 200, "result": {"idx": claims.idx, "radius": person.radius}});
        _ = ack.send(&answer);
    });

    let (chat_of, my, io) = (Arc::clone(chat), Arc::clone(&me), io.clone());
    socket.on("save_msg", async move |Data(said): Data<SaveMsg>, ack: AckSender| {
        let Some(claims) = my.user(&said.token, &chat_of.key) else { return refuse(ack) };
        chat_of.say(&io, &my, claims, said, ack).await;
    });

    let (chat_of, my) = (Arc::clone(chat), me);
    socket.on_disconnect(async move || {
        chat_of.grid.write().unwrap_or_else(PoisonError::into_inner).remove(my.room);
    });
}

impl Chat {
    async fn say(&self, io: &SocketIo, me: &Connection, claims: Claims, said: SaveMsg, ack: AckSender) {
        let (lng, lat) = (said.message.lng.0, said.message.lat.0);
        let is_loud = said.message.kind == "LoudSpeaker";
        let reach = said.radius.map_or(500.0, |radius| radius.0);
        let (hearers, near) = {
            let grid = self.grid.read().unwrap_or_else(PoisonError::into_inner);
            let others = |room: &&'static str| *room != me.room;
            let mut hearers: Vec<_> = grid.hearers(lng, lat).filter(others).collect();
            hearers.push(me.room);
            let near = is_loud.then(|| grid.within(lng, lat, reach).filter(others).collect::<Vec<_>>());
            (hearers, near)
        };
        let author = Author {
            idx: claims.idx,
            nickname: claims.nickname.unwrap_or_else(|| format!("user-{}", claims.idx)),
            avatar: claims.avatar,
            anonymity: false,
        };
        let message = NewMsg::new(self.messages.fetch_add(1, Ordering::Relaxed) + 1, author, said.message);
        _ = ack.send(&message);
        _ = io.to(hearers).emit("new_msg", &message).await;
        if let Some(near) = near.filter(|near| !near.is_empty()) {
            _ = io.to(near).emit("speaker", &message.result).await;
        }
    }
}

impl Connection {
    /// Whose the token is; the same one is not verified twice.
    fn user(&self, token: &str, key: &DecodingKey) -> Option<Claims> {
        if let Some((known, claims)) = self.user.get()
            && known == token
        {
            return Some(claims.clone());
        }
        let claims =
            jsonwebtoken::decode::<Claims>(token, key, &Validation::new(Algorithm::HS256)).ok()?.claims;
        _ = self.user.set((token.to_owned(), claims.clone()));
        Some(claims)
    }
}

fn refuse(ack: AckSender) {
    _ = ack.send(&json!({"status": 401, "message": "the token is not valid here"}));
}
