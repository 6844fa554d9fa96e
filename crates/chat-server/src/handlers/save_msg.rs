//! `save_msg`: from a checked event to the world's store. Nobody sees the message before it is kept.

use std::time::Instant;

use crate::delivery::Origin;
use crate::event::{MessageKind, SaveMsg};
use crate::refusal::Refusal;
use crate::storage::NewMessage;
use crate::store::SaveRequest;
use crate::worker::{Chat, Reply};

pub(crate) fn handle(
    chat: &Chat,
    reply: &Reply<'_>,
    save: SaveMsg,
    received_at: Instant,
) -> Result<(), Refusal> {
    let binding = chat.authorize(reply.socket, save.token.as_deref(), save.test)?;
    let rules = &chat.shared.rules;
    let reach_m = (save.kind == MessageKind::LoudSpeaker).then(|| {
        let own_radius =
            || binding.slot.and_then(|slot| Some(chat.shard(binding.world).borrow().get(slot)?.radius_m));
        let asked = save.radius_m.or_else(own_radius).unwrap_or(rules.default_reach_m);
        asked.min(rules.max_radius_m)
    });
    let message = NewMessage {
        author: binding.author,
        position: save.position,
        kind: save.kind,
        contents: save.contents,
        created_at_ms: 0,
    };
    let origin = Origin { worker: chat.number, socket: reply.socket.id(), ack: reply.ack };
    chat.shared
        .stores
        .get(binding.world)
        .save(SaveRequest { message, reach_m, origin, received_at })
        .map_err(Refusal::from)
}
