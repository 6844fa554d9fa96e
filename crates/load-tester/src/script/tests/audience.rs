//! Our own keys: `listeners` and `delivery`.

use std::time::Duration;

use super::*;

#[test]
fn listeners_and_delivery() {
    let script = good(JOURNAL_HEARD);
    let [group] = &script.config.listeners[..] else { panic!() };
    assert_eq!(
        group.place,
        Some(model::Place { lng: 127.0276, lat: 37.4979, within_m: 2870.0, radius_m: (100.0, 1000.0) })
    );
    let Action::Emit(emit) = &group.flow[0].action else { panic!() };
    assert!(emit.acknowledge.is_some() && group.moving.is_none());
    let delivery = script.config.delivery.as_ref().unwrap();
    assert_eq!(delivery.stamp, ["messageData", "contents"]);
    assert_eq!(delivery.read, ["result", "contents"]);
    assert_eq!(delivery.expect, Some(DeliveryExpectation::Circle));
    assert_eq!(delivery.place.1, ["messageData", "lat"]);
    assert_eq!(delivery.deadline.as_secs(), 10);

    let moving = good(&with(
        "listeners:\n  - count: '5'\n    name: walkers\n    place: {around: [0, 0], within: 10, radius: 5}\n    moving: {every: 2s, step: 30, flow: [{emit: [update, {p: '{{ lng }}'}]}]}\ndelivery: {event: e, stamp: a, read: b, expect: 3, deadline: 2s, place: {lng: x.lng, lat: x.lat}}",
        "flow: []",
    ));
    let group = &moving.config.listeners[0];
    let walk = group.moving.as_ref().unwrap();
    assert_eq!((group.count, walk.every.as_secs(), walk.step_m, walk.flow.len()), (5, 2, 30.0, 1));
    assert_eq!(moving.config.delivery.unwrap().expect, Some(DeliveryExpectation::Number(3)));

    let heard = |from: &str, to: &str| JOURNAL_HEARD.replace(from, to);
    let returning = good(&heard("[\"store\", {", "[\"store\", { since: '{{ since }}',").replace(
        "          acknowledge: true\n  delivery",
        "          acknowledge: true\n      returning: { every: 20s, away: 1500ms }\n  delivery",
    ));
    let comes_back = returning.config.listeners[0].returning.as_ref().unwrap();
    assert_eq!((comes_back.every.unwrap().as_secs(), comes_back.away.as_millis()), (20, 1500));
    assert_eq!(comes_back.cursor, ["result", "cursor"]);

    assert_errors!(
        "listeners",
        &[
            &heard("[127.0276, 37.4979]", "[37.4979, 127.0276]"),
            &heard("radius: [100, 1000]", "radius: [1000, 100]"),
            &heard("within: 2870, ", ""),
            &heard("count: 2000", "count: a lot"),
            &heard("expect: circle", "expect: cirlce"),
            &heard("      place: { around: [127.0276, 37.4979], within: 2870, radius: [100, 1000] }\n", ""),
            &heard("    stamp: messageData.contents\n", ""),
            &heard(
                "  delivery:\n",
                "      returning: { every: 1ms, away: 1s }\n      moving: { every: 2s, flow: [] }\n  delivery:\n"
            ),
            &heard("  delivery:\n", "      returning: { away: 1s }\n  delivery:\n"),
        ]
    );
    // Rows of the users are not the listeners'.
    let without =
        heard("      payload: { path: \"listeners.csv\", fields: [\"token\"], order: \"sequence\" }\n", "");
    assert!(warnings(&without)[0].contains("nothing sets `token` for listeners"), "{:?}", warnings(&without));
}

#[test]
fn slow_listeners_and_storms() {
    let groups = |groups: &str| with(&format!("listeners:\n{groups}"), "flow: []");
    let script = good(&groups(
        "  - {count: 10, name: far, reconnect: false, storm: {at: 20, share: 0.25, how: silent, over: 2s, back: at-once}}
  - {count: 4, slow: {bytesPerSecond: 2000}}
  - {count: 3, slow: {stopReading: true}}
  - {count: 2, storm: [{at: 1s}, {at: 5, how: close, back: never}], returning: {cursor: a.b}, flow: [{emit: [join, '{{ since }}']}]}",
    ));
    let listeners = &script.config.listeners;
    let classes: Vec<String> =
        listeners.iter().enumerate().map(|(index, group)| group.class(index)).collect();
    assert_eq!(classes, ["far", "2", "3", "4"]);
    assert_eq!(
        listeners[0].storms,
        [model::Storm {
            at: Duration::from_secs(20),
            share: 0.25,
            how: model::Cut::Silent,
            over: Duration::from_secs(2),
            back: model::Back::AtOnce,
        }]
    );
    assert_eq!((listeners[0].storms[0].hit(10), listeners[0].most_connections()), (3, 13));
    assert!(!listeners[0].reconnect && listeners[1].reconnect);
    assert_eq!(
        [listeners[0].slow, listeners[1].slow, listeners[2].slow],
        [None, Some(model::Slow::BytesPerSecond(2000.try_into().unwrap())), Some(model::Slow::StopReading)]
    );
    let storms: Vec<_> = (listeners[3].storms.iter())
        .map(|storm| (storm.at.as_secs(), storm.share, storm.how, storm.over.as_secs(), storm.back))
        .collect();
    assert_eq!(
        storms,
        [
            (1, 1.0, model::Cut::Drop, 0, model::Back::Backoff),
            (5, 1.0, model::Cut::Close, 0, model::Back::Never),
        ]
    );
    let returning = listeners[3].returning.as_ref().unwrap();
    assert_eq!((returning.every, &returning.cursor[..]), (None, &["a".to_owned(), "b".to_owned()][..]));
    let told = crate::script::summary::describe(&script);
    for part in [
        "at 20s 3 of them fall silent within 2s and come back at once",
        "slow, 2000 bytes a second, so nothing is expected of them",
        "they stop reading",
        "at 1s 2 of them are cut off and come back by backoff; at 5s 2 of them leave and stay away",
    ] {
        assert!(told.contains(part), "{part} is not in {told}");
    }

    let one = |keys: &str| groups(&format!("  - {{count: 1, {keys}}}"));
    assert_errors!(
        "slow_and_storms",
        &[
            &one("slow: {}"),
            &one("slow: {bytesPerSecond: 1, stopReading: true}"),
            &one("slow: {bytesPerSecond: 0}"),
            &one("storm: {share: 0.5}"),
            &one("storm: {at: 1, share: 50}"),
            &one("storm: {at: 1, how: bang}"),
            &one("storm: {at: 1, back: soon}"),
            &groups("  - {count: 1, name: a}\n  - {count: 1, name: a}"),
            &groups("  - {count: 1, name: '2'}\n  - {count: 1}"),
        ]
    );
}
