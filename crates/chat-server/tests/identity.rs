//! Who somebody is and in which world: tokens and flags decide, and what does not fit is refused whole.

mod support;

use std::sync::Arc;

use chat_server::config::TestWorld;
use chat_server::token::{Claims, now_s};
use serde_json::{Value, json};
use support::{Dna, HERE, Person, SlowStorage, config, message, sign, test_token, token};

/// What `save_msg` with these changes is answered: (status, code).
async fn save_with(person: &mut Person, changes: Value) -> (u64, u64) {
    let mut object = message("x");
    object.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    let id = person.emit("save_msg", &[object]).await;
    person.verdict(id).await
}

#[tokio::test]
async fn the_first_valid_token_binds_the_connection() {
    let storage = SlowStorage::new();
    let dna = Dna::on(&storage);
    let mut person = dna.person(1).await;
    // Nothing was asked with the handshake's token yet; it counts all the same.
    assert_eq!(save_with(&mut person, json!({ "token": token(2) })).await, (403, 10403));
    assert_eq!(save_with(&mut person, json!({ "token": "a.b.c" })).await, (401, 12400));
    let expired = sign(&Claims {
        idx: 1,
        exp: now_s() - 1,
        nickname: None,
        avatar: None,
        anonymity: None,
        test: false,
    });
    assert_eq!(save_with(&mut person, json!({ "token": expired })).await, (401, 11400));
    assert_eq!(storage.kept(), [""; 0]);
    assert_eq!(save_with(&mut person, json!({ "token": token(1) })).await, (201, 0));
    assert_eq!(save_with(&mut person, json!({})).await, (201, 0));
    assert_eq!(save_with(&mut person, json!({ "token": token(2) })).await, (403, 10403));
    assert_eq!(storage.kept().len(), 2);
    assert!(person.heard.iter().all(|heard| heard.author == 1));
}

#[tokio::test]
async fn a_connection_belongs_to_one_world() {
    let (live, test) = (SlowStorage::new(), SlowStorage::new());
    let dna = Dna::start(&config(), Arc::new(live.clone()), Arc::new(test.clone()));
    let mut ordinary = dna.person(1).await;
    assert_eq!(save_with(&mut ordinary, json!({ "testing": true })).await, (201, 0), "open on loopback");
    assert_eq!(save_with(&mut ordinary, json!({ "testing": false })).await, (409, 10409));
    assert_eq!(save_with(&mut ordinary, json!({})).await, (201, 0));
    let mut tester = Person::connect(dna.address, &test_token(2)).await;
    assert_eq!(save_with(&mut tester, json!({ "testing": false })).await, (201, 0), "the claim decides");
    let mut resident = dna.person_at(3, HERE, 500.0).await;
    assert_eq!(save_with(&mut resident, json!({ "token": test_token(3) })).await, (409, 10409));
    assert_eq!(save_with(&mut resident, json!({ "testing": true })).await, (409, 10409));
    assert_eq!((live.kept().len(), test.kept().len()), (0, 3));
}

#[tokio::test]
async fn a_closed_test_world_takes_test_tokens_only() {
    let (live, test) = (SlowStorage::new(), SlowStorage::new());
    let mut config = config();
    config.test_world = TestWorld::Closed;
    let dna = Dna::start(&config, Arc::new(live.clone()), Arc::new(test.clone()));
    let mut ordinary = dna.person(1).await;
    assert_eq!(save_with(&mut ordinary, json!({ "testing": true })).await, (403, 11403));
    let mut inner = message("x");
    inner["messageData"]["test"] = true.into();
    let id = ordinary.emit("save_msg", &[inner]).await;
    assert_eq!(ordinary.verdict(id).await, (403, 11403));
    assert_eq!(live.kept().len() + test.kept().len(), 0, "stored nowhere");
    assert_eq!(save_with(&mut ordinary, json!({})).await, (201, 0));
    let mut tester = Person::connect(dna.address, &test_token(2)).await;
    assert_eq!(save_with(&mut tester, json!({})).await, (201, 0));
    assert_eq!((live.kept().len(), test.kept().len()), (1, 1));
}
