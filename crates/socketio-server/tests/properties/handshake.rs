//! The input is the head of an HTTP request.

use http::Request;
use socketio_server::Handshake;

pub(crate) fn check(input: &[u8]) {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Request::new(&mut headers);
    if !head.parse(input).is_ok_and(|status| status.is_complete()) {
        return;
    }
    let mut request =
        Request::builder().method(head.method.unwrap_or_default()).uri(head.path.unwrap_or_default());
    for header in head.headers.iter() {
        request = request.header(header.name, header.value);
    }
    let Ok(request) = request.body(()) else { return };
    let (parts, ()) = request.into_parts();
    let query = parts.uri.query().unwrap_or("").to_owned();
    let expected = parts.headers.clone();
    let handshake = Handshake::new(([127, 0, 0, 1], 5).into(), &parts);

    let kept: Vec<_> = handshake.headers().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
    let sent: Vec<_> = expected
        .iter()
        // A longer name is nobody's, and left away.
        .filter(|(name, _)| name.as_str().len() <= 255)
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect();
    assert_eq!(kept, sent);
    for (name, _) in &sent {
        let first = expected.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
        assert_eq!(handshake.header(&name.to_uppercase()), first);
    }
    assert_eq!(handshake.query(), query);
    for pair in query.split('&') {
        let name = pair.split('=').next().unwrap_or_default();
        // A name is taken as it stands; browsers' libraries encode none of those asked for.
        if name.is_empty() || name.contains(['%', '+']) {
            continue;
        }
        let first = query.split('&').find(|pair| pair.split('=').next() == Some(name)).unwrap_or_default();
        let theirs = form_urlencoded::parse(first.as_bytes()).next();
        match handshake.query_value(name) {
            Some(value) => {
                assert_eq!(Some(&*value), theirs.as_ref().map(|(_, value)| &**value), "{name} in {query}");
            }
            None => assert!(theirs.is_none_or(|(_, value)| value.contains('\u{fffd}')), "{name} in {query}"),
        }
    }
    // Neither query nor headers: tokens stand in them.
    let told = format!("{handshake:?}");
    assert!(told.len() < 200, "{told}");
}
