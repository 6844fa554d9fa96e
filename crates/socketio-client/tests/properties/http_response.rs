//! The first byte of the input chooses the most bytes a body may have, the second how the rest, an HTTP answer, is cut
//! into reads.

use socketio_client::response::{Framing, MAX_HEAD, Reader, Response};

pub(crate) fn check(input: &[u8]) {
    let [setting, cuts, bytes @ ..] = input else { return };
    let max_body = usize::from(*setting) * 4;
    let whole = read(bytes, max_body, bytes.len());
    for len in [1, 1 + usize::from(*cuts)] {
        let in_pieces = read(bytes, max_body, len);
        match (&whole, &in_pieces) {
            // Not the text, which shows how much had come.
            (Err(_), Err(_)) => {}
            (Ok(whole), Ok(in_pieces)) => assert_eq!(in_pieces, whole, "in pieces of {len}"),
            _ => panic!("whole: {whole:?}; in pieces of {len}: {in_pieces:?}"),
        }
    }
    let Ok(Some(response)) = whole else { return };
    check_response(&response, max_body);
    check_written_again(&response, usize::from(*cuts));
}

/// Reads an answer of which `piece` bytes come at a time, and then the end of the connection.
fn read(bytes: &[u8], max_body: usize, piece: usize) -> Result<Option<Response>, String> {
    let mut reader = Reader::new(max_body);
    let mut come = 0;
    for part in bytes.chunks(piece.max(1)) {
        come += part.len();
        if let Some(done) = reader.feed(part)? {
            // What follows an answer comes before the connection is used again.
            return Ok(Some(Response { keep_alive: done.keep_alive && come == bytes.len(), ..done }));
        }
        assert!(reader.body().len() <= max_body);
        assert!(reader.buffered() - reader.body().len() < MAX_HEAD, "{} bytes held", reader.buffered());
    }
    Ok(reader.end())
}

fn check_response(response: &Response, max_body: usize) {
    assert!(response.body.len() <= max_body);
    assert!(response.head.headers.len() <= 100 && response.head.code < 1000);
    match response.head.framing().expect("it was read") {
        Framing::Length(len) => assert_eq!(response.body.len() as u64, len),
        Framing::UntilClose => assert!(!response.keep_alive),
        Framing::Chunked(_) => {}
    }
    if response.keep_alive {
        assert!(!response.head.has("connection", "close"));
    }
}

/// The same head, and the same body in each of the three ways in which it may end.
fn check_written_again(response: &Response, piece: usize) {
    let head = &response.head;
    let mut start = format!("HTTP/1.1 {:03} {}\r\n", head.code, head.reason);
    let mut framed = start.clone();
    for (name, value) in &head.headers {
        framed += &format!("{name}: {value}\r\n");
        if !["content-length", "transfer-encoding"].contains(&&*name.to_ascii_lowercase()) {
            start += &format!("{name}: {value}\r\n");
        }
    }
    // Replaced bytes have become longer.
    if framed.len() + 40 > MAX_HEAD {
        return;
    }
    let (again, len) = socketio_client::response::parse_head(format!("{framed}\r\n").as_bytes())
        .expect("was read before")
        .expect("whole");
    assert_eq!((again.code, &again.reason, &again.headers), (head.code, &head.reason, &head.headers));
    assert_eq!(len, framed.len() + 2);
    assert_eq!(again.framing(), head.framing());
    if matches!(head.code, 100..200 | 204 | 304) {
        return;
    }
    let body = &response.body;
    let with_length = [format!("{start}Content-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat();
    let until_close = [format!("{start}\r\n").as_bytes(), body].concat();
    let mut chunked = format!("{start}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for chunk in body.chunks(piece.max(1)) {
        chunked.extend(format!("{:x};a=b\r\n", chunk.len()).bytes());
        chunked.extend_from_slice(chunk);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\nTrailer: x\r\n\r\n");
    for (bytes, stays) in [(&with_length, true), (&until_close, false), (&chunked, true)] {
        let again = read(bytes, body.len(), piece).expect("well made").expect("whole");
        assert_eq!((again.head.code, &again.body), (head.code, body));
        assert_eq!(again.keep_alive, stays && !head.has("connection", "close"));
    }
}
