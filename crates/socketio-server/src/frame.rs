//! One encoded message, shared by every outbox it stands in.

use std::fmt;
use std::sync::Arc;

use socketio_wire::engineio::Revision;
use socketio_wire::websocket::frame::{Opcode, encode_header};

/// One complete WebSocket message: header, Engine.IO type, Socket.IO packet. Encoded once; cloning copies a
/// pointer. Text frames are the same bytes for both Engine.IO revisions.
///
/// Arguments are given as raw JSON values joined by commas, without brackets: `{"a":1},[2]` are two arguments,
/// `""` is none. They are not checked: what is pushed must be valid JSON.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame(Arc<[u8]>);

impl Frame {
    /// An EVENT of the namespace `/`.
    pub fn event(name: &str, args_json: &str) -> Self {
        Self::event_in("/", name, args_json)
    }

    /// An EVENT of any namespace; sockets of another namespace would deliver it to the wrong place.
    pub fn event_in(namespace: &str, name: &str, args_json: &str) -> Self {
        let mut name_json = String::with_capacity(name.len() + 2);
        push_json_string(name, &mut name_json);
        Self::socketio(b'2', None, namespace, None, &[&name_json, args_json])
    }

    /// An Engine.IO text message (type `4`) around `text`.
    pub fn text(text: &str) -> Self {
        Self::from_parts(Opcode::Text, &[b"4", text.as_bytes()])
    }

    /// An Engine.IO binary message. Revision 3 puts its type in front of the bytes, revision 4 nothing.
    pub fn binary(revision: Revision, data: &[u8]) -> Self {
        match revision {
            Revision::V3 => Self::from_parts(Opcode::Binary, &[&[4], data]),
            Revision::V4 => Self::from_parts(Opcode::Binary, &[data]),
        }
    }

    /// A Socket.IO packet that carries an array. `kind` is its digit; empty elements are left out.
    pub(crate) fn socketio(
        kind: u8,
        attachments: Option<usize>,
        namespace: &str,
        ack: Option<u64>,
        elements: &[&str],
    ) -> Self {
        let length: usize = elements.iter().map(|element| element.len() + 1).sum();
        let mut text = String::with_capacity(length + namespace.len() + 40);
        text.push(char::from(kind));
        if let Some(count) = attachments {
            text.push_str(&format!("{count}-"));
        }
        push_namespace(namespace, &mut text);
        if let Some(id) = ack {
            text.push_str(&id.to_string());
        }
        text.push('[');
        let mut first = true;
        for element in elements.iter().filter(|element| !element.is_empty()) {
            if !first {
                text.push(',');
            }
            first = false;
            text.push_str(element);
        }
        text.push(']');
        Self::text(&text)
    }

    /// A Socket.IO packet with a bare payload (CONNECT, DISCONNECT, CONNECT_ERROR).
    pub(crate) fn control(kind: u8, namespace: &str, payload: &str) -> Self {
        let mut text = String::with_capacity(payload.len() + namespace.len() + 2);
        text.push(char::from(kind));
        push_namespace(namespace, &mut text);
        text.push_str(payload);
        Self::text(&text)
    }

    /// A whole WebSocket message whose payload is `parts` put together.
    pub(crate) fn from_parts(opcode: Opcode, parts: &[&[u8]]) -> Self {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let mut bytes = Vec::with_capacity(length + 10);
        encode_header(true, opcode, None, length as u64, &mut bytes);
        for part in parts {
            bytes.extend_from_slice(part);
        }
        Self(bytes.into())
    }

    /// The same frame in memory of its own. Clones of one frame share a count, which threads that clone it at the same
    /// time take from each other's cache each time: one copy a thread is cheaper than that.
    #[must_use]
    pub fn copied(&self) -> Self {
        Self(Arc::from(&*self.0))
    }

    /// The whole WebSocket frame, as it goes to the socket.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The Engine.IO packet without the WebSocket header: what a polling response carries (binary ones still
    /// to be put into that transport's form).
    pub fn payload(&self) -> &[u8] {
        payload(&self.0)
    }

    pub fn is_binary(&self) -> bool {
        is_binary(&self.0)
    }

    /// Length of the whole WebSocket frame in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never true: a frame has a header.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let payload = self.payload();
        let head = String::from_utf8_lossy(&payload[..payload.len().min(80)]);
        write!(f, "Frame({} bytes, {head:?})", self.len())
    }
}

/// The payload of a whole frame's bytes.
pub(crate) fn payload(frame: &[u8]) -> &[u8] {
    // An unmasked server frame: the second byte is the length or says how long the length is.
    match frame[1] {
        126 => &frame[4..],
        127 => &frame[10..],
        _ => &frame[2..],
    }
}

/// Whether a whole frame's bytes are a binary message.
pub(crate) fn is_binary(frame: &[u8]) -> bool {
    frame[0] & 0x0f == 2
}

/// `/` is not written; any other namespace stands before a comma.
fn push_namespace(namespace: &str, out: &mut String) {
    if namespace != "/" {
        out.push_str(namespace);
        out.push(',');
    }
}

/// `value` as a JSON string with its quotes.
pub(crate) fn push_json_string(value: &str, out: &mut String) {
    if value.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        out.push('"');
        out.push_str(value);
        out.push('"');
    } else {
        out.push_str(&serde_json::Value::from(value).to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_whole_text_frame() {
        let rows: &[(&str, &str, &str, &str)] = &[
            ("/", "new_msg", r#"{"a":1}"#, r#"42["new_msg",{"a":1}]"#),
            ("/", "none", "", r#"42["none"]"#),
            ("/", "two", "1,2", r#"42["two",1,2]"#),
            ("/custom", "auth", "{}", r#"42/custom,["auth",{}]"#),
            ("/", "quo\"te\n", "1", r#"42["quo\"te\n",1]"#),
            ("/", "결과", "1", r#"42["결과",1]"#),
        ];
        for (namespace, name, args, expected) in rows {
            let frame = Frame::event_in(namespace, name, args);
            assert_eq!(frame.payload(), expected.as_bytes(), "{name}");
            assert_eq!(frame.as_bytes()[0], 0x81, "{name}: one final text frame");
            assert!(!frame.is_binary());
        }
    }

    #[test]
    fn the_payload_is_found_behind_each_length_form() {
        for length in [0, 1, 124, 125, 126, 65_534, 65_535, 65_536, 100_000] {
            let text = "x".repeat(length);
            let frame = Frame::text(&text);
            assert_eq!(frame.payload().len(), length + 1, "length {length}");
            assert_eq!(frame.payload()[0], b'4');
        }
    }

    #[test]
    fn binary_messages_carry_their_type_only_in_revision_3() {
        assert_eq!(Frame::binary(Revision::V3, &[1, 2]).as_bytes(), [0x82, 3, 4, 1, 2]);
        assert_eq!(Frame::binary(Revision::V4, &[1, 2]).as_bytes(), [0x82, 2, 1, 2]);
        assert!(Frame::binary(Revision::V4, &[]).is_binary());
    }
}
