//! The same id has the same name everywhere, and nothing else has it.

use serde_json::json;

use super::*;

const FIRST: &str = "65f0aaaaaaaaaaaaaaaaaaaa";
const SECOND: &str = "65f0bbbbbbbbbbbbbbbbbbbb";
const UUID_1: &str = "0b7f2f8e-6a53-4c1b-9d2e-1f0a5b6c7d8e";

fn named(names: &mut Names, mut value: Value) -> Value {
    names.name(&mut value);
    value
}

fn resolved(names: &mut Names, mut value: Value) -> Result<Value, String> {
    names.resolve(&mut value).map(|()| value)
}

#[test]
fn a_time_that_is_sent_back_has_a_name_and_others_have_none() {
    let (back, other) = ("2025-11-11T10:30:00.000Z", "2025-11-11T10:30:00.001Z");
    let mut names = Names::default();
    names.will_be_sent(&json!({ "before": back }));
    assert_eq!(named(&mut names, json!([back, other])), json!(["<time-1>", "<time>"]));
    let mut sent = json!({ "before": back });
    names.name_sent(&mut sent);
    assert_eq!(sent, json!({ "before": "<time-1>" }));
    // In a replay, the name stands for the text in its place then.
    let mut replayed = Names::default();
    replayed.bind(&json!(["<time-1>", "<time>"]), &json!([other, back]));
    assert_eq!(resolved(&mut replayed, sent), Ok(json!({ "before": other })));
    assert_eq!(named(&mut replayed, json!([other, back])), json!(["<time-1>", "<time>"]));
}

#[test]
fn the_same_id_has_the_same_name_everywhere() {
    let mut names = Names::default();
    assert_eq!(named(&mut names, json!([FIRST, SECOND])), json!(["<message-1>", "<message-2>"]));
    assert_eq!(named(&mut names, json!({ "id": SECOND })), json!({ "id": "<message-2>" }));
    assert_eq!(named(&mut names, json!(UUID_1)), json!("<uuid-1>"));
    assert_eq!(resolved(&mut names, json!(["<message-2>"])), Ok(json!([SECOND])));
}

#[test]
fn values_that_a_client_sent_stay_as_they_are() {
    let mut names = Names::default();
    let sent = json!([FIRST, UUID_1, "2025-11-11T10:30:00.000Z", 1_762_857_000_000_u64]);
    assert_eq!(resolved(&mut names, sent.clone()), Ok(sent.clone()));
    assert_eq!(named(&mut names, sent.clone()), sent);
}

#[test]
fn only_a_time_of_the_contracts_form_is_one() {
    let mut names = Names::default();
    assert_eq!(named(&mut names, json!("2025-11-11T10:30:00.000Z")), json!("<time>"));
    assert_eq!(named(&mut names, json!(1_762_857_000_000_u64)), json!("<milliseconds>"));
    for other in ["2025-11-11T10:30:00Z", "2025-11-11T10:30:00.0000Z", "2025-13-11T10:30:00.000Z"] {
        assert_eq!(named(&mut names, json!(other)), json!(other));
    }
    assert_eq!(named(&mut names, json!(1_762_857_000)), json!(1_762_857_000));
}

#[test]
fn a_variable_stands_for_the_first_text_in_its_place() {
    let mut names = Names::default();
    let expected = json!({ "id": "<message-7>", "room": "<room-1>", "to": "<uuid-1>" });
    let actual = json!({ "id": FIRST, "room": "xyz", "to": "no UUID" });
    names.bind(&expected, &actual);
    let as_named = json!({ "id": "<message-7>", "room": "<room-1>", "to": "no UUID" });
    assert_eq!(named(&mut names, actual), as_named);
    // A text of another form is shown as it is, and the conversation goes on with it.
    assert_eq!(resolved(&mut names, json!("<uuid-1>")), Ok(json!("no UUID")));
    // The variable keeps its text, and the other text gets another name.
    names.bind(&json!("<message-7>"), &json!(SECOND));
    assert_eq!(named(&mut names, json!(SECOND)), json!("<message-1>"));
    // One text has one name.
    names.bind(&json!("<room-2>"), &json!("xyz"));
    assert_eq!(named(&mut names, json!("xyz")), json!("<room-1>"));
}

#[test]
fn a_text_that_looks_like_a_variable_is_escaped() {
    let mut names = Names::default();
    for text in ["<message-1>", "<time>", "<<uuid-2>", "<milliseconds>"] {
        let escaped = json!(format!("<{text}"));
        assert_eq!(named(&mut names, json!(text)), escaped);
        assert_eq!(resolved(&mut names, escaped), Ok(json!(text)));
    }
    for text in ["<b>", "<<b>", "<message-0>", "<message-01>", "<h-1", "<-1>", "a <time>"] {
        assert_eq!(named(&mut names, json!(text)), json!(text));
        assert_eq!(resolved(&mut names, json!(text)), Ok(json!(text)));
    }
}

#[test]
fn a_variable_without_a_text_cannot_be_sent() {
    let error = resolved(&mut Names::default(), json!({ "id": "<message-1>" })).unwrap_err();
    assert_eq!(error, "<message-1> was not seen yet");
    assert!(check_sendable(&json!(["<time>"])).unwrap_err().starts_with("<time> stands for"));
}

#[test]
fn a_known_id_that_a_client_sends_has_its_name() {
    let mut names = Names::default();
    let time = "2025-11-11T10:30:00.000Z";
    names.name(&mut json!([FIRST, time]));
    let mut sent = json!([FIRST, time, SECOND]);
    names.name_sent(&mut sent);
    assert_eq!(sent, json!(["<message-1>", time, SECOND]));
    // The time still counts as the server's, the other id as the client's.
    assert_eq!(named(&mut names, json!([time, SECOND])), json!(["<time>", SECOND]));
}

#[test]
fn keys_have_names_too() {
    let mut names = Names::default();
    names.socket("kJh3Xy");
    let actual = json!({ "kJh3Xy": 1, FIRST: 2, "2025-11-11T10:30:00.000Z": 3 });
    let expected = json!({ "<socket-1>": 1, "<message-1>": 2, "2025-11-11T10:30:00.000Z": 3 });
    assert_eq!(named(&mut names, actual.clone()), expected);
    assert_eq!(resolved(&mut names, expected).unwrap(), actual);
    names.bind(&json!({ "<room-1>": "<user-1>" }), &json!({ "abc": "def" }));
    assert_eq!(named(&mut names, json!({ "def": "abc" })), json!({ "<user-1>": "<room-1>" }));
}

#[test]
fn a_socket_has_a_name_from_its_connection_on() {
    let mut names = Names::default();
    names.socket("kJh3Xy");
    assert_eq!(named(&mut names, json!({ "from": "kJh3Xy" })), json!({ "from": "<socket-1>" }));
}
