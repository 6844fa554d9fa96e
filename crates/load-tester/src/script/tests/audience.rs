//! Our own keys: `listeners` and `delivery`.

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
    assert_eq!((comes_back.every.as_secs(), comes_back.away.as_millis()), (20, 1500));
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
