/// Why an Engine.IO or Socket.IO text or body could not be decoded, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{kind} (at byte {at})")]
pub struct Error {
    kind: ErrorKind,
    at: usize,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, at: usize) -> Self {
        Error { kind, at }
    }

    /// What is wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Where, as a byte offset into the text or body handed to the decoder.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The same error seen from a text in which the decoded part begins at `start`.
    pub(crate) fn shifted(self, start: usize) -> Self {
        Error { at: self.at + start, ..self }
    }
}

/// The kinds of [`Error`], to match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    #[error("empty packet, expected a packet type")]
    Empty,
    #[error("unknown packet type")]
    UnknownType,
    #[error("base64 packets carry binary data and are not expected here")]
    UnexpectedBase64,
    #[error("invalid base64")]
    Base64,
    #[error("invalid UTF-8")]
    Utf8,
    #[error("invalid packet length, expected decimal digits")]
    PayloadLength,
    #[error("invalid payload marker, expected 0 (text) or 1 (binary)")]
    PayloadMarker,
    #[error("payload ends within a packet")]
    Truncated,
    #[error("more than {0} packets in one payload")]
    TooManyPackets(usize),
    #[error("more than {0} bytes")]
    TooLarge(usize),
    #[error("invalid attachment count, expected decimal digits and `-`")]
    AttachmentCount,
    #[error("more than {0} attachments")]
    TooManyAttachments(u32),
    #[error("namespace or its query is longer than {0} bytes")]
    NamespaceTooLong(usize),
    #[error("invalid ack id, expected an integer below 2^53")]
    AckId,
    #[error("this packet type carries no ack id")]
    UnexpectedAckId,
    #[error("an acknowledgement without its ack id")]
    MissingAckId,
    #[error("invalid data, expected a JSON array")]
    ExpectedArray,
    #[error("invalid data, expected a JSON object")]
    ExpectedObject,
    #[error("this packet type carries no data")]
    UnexpectedData,
    #[error("invalid JSON")]
    Json,
    #[error("an event needs a name, a string or a number, as its first element")]
    EventName,
    #[error("this event name is reserved by the protocol")]
    ReservedEvent,
    #[error("more than {0} arguments")]
    TooManyArguments(usize),
    #[error("a placeholder names an attachment that does not exist")]
    Placeholder,
    #[error("text arrived where a binary attachment was due")]
    ExpectedAttachment,
    #[error("a binary attachment arrived where none was due")]
    UnexpectedAttachment,
    #[error("invalid handshake")]
    Handshake,
}

/// Where serde_json found `error` in `text`: it counts lines and columns, we count bytes.
pub(crate) fn json_place(text: &str, error: &serde_json::Error) -> usize {
    let before: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    (before + error.column().saturating_sub(1)).min(text.len())
}
