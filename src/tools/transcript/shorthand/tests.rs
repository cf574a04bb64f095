//! A short form is read as it was written.

use proptest::prelude::*;
use serde_json::json;

use super::{
    super::script::{Content, Script},
    *,
};

const TALK: &str = r#"alice connects
bob connects
alice ? send-message {"conversationId":"c1","message":"x"*200}
  alice < message-sent {"id":"<message-1>","content":"x"*200}
  alice < message-delivered {"messageId":"<message-1>"}
  alice < ack {"ok":true,"message":<message-1>}
  bob < receive-message <message-1>
bob ? join-conversation {"conversationId":"c1"}
  bob < conversation-history {"messages":[<message-1>,{"id":"<message-2>","from":{"id":"alice","name":"Alice"}}],"hasMore":false}
  bob < ack {"ok":true,...conversation-history}
bob ? list-conversations {}
  bob < conversation-list {"last":<message-2>,"with":[<alice>]}
  bob < error {"code":"x","message":"y","event":"z"}
  bob < ack {"ok":false,"error":{...error but event}}
"#;

fn answers(script: &Script) -> Vec<Answer> {
    let answers = script.lines.iter().filter_map(|line| match &line.content {
        Content::Answer(answer) => Some(answer.clone()),
        _ => None,
    });
    answers.collect()
}

#[test]
fn short_forms_stand_for_earlier_values() {
    let script = Script::parse(TALK).unwrap_or_else(|error| panic!("{error}"));
    let answers = answers(&script);
    let message = json!({ "id": "<message-1>", "content": "x".repeat(200) });
    assert_eq!(answers[2].arguments, [json!({ "ok": true, "message": message })]);
    assert_eq!(answers[3].arguments, std::slice::from_ref(&message));
    let alice = json!({ "id": "alice", "name": "Alice" });
    let second = json!({ "id": "<message-2>", "from": alice });
    let history = json!({ "ok": true, "messages": [message, second], "hasMore": false });
    assert_eq!(answers[5].arguments, [history]);
    assert_eq!(answers[6].arguments, [json!({ "last": second, "with": [alice] })]);
    let error = json!({ "ok": false, "error": { "code": "x", "message": "y" } });
    assert_eq!(answers[8].arguments, [error]);
}

#[test]
fn a_file_is_written_as_it_was_read() {
    let script = Script::parse(TALK).unwrap_or_else(|error| panic!("{error}"));
    let mut shown = Shown::default();
    let mut text = String::new();
    for line in &script.lines {
        match &line.content {
            Content::Answer(answer) => {
                text.push_str(&format!("  {}\n", shown.write(answer)));
            }
            content => {
                shown.next_step();
                text.push_str(&format!("{content}\n"));
            }
        }
    }
    assert_eq!(text, TALK);
}

/// Payloads in which the same few objects occur again and again, changed or not.
fn payload() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        (0..3_u8).prop_map(Value::from),
        prop_oneof!["x{150}", "<(message|m)-1>", "[a<>.*\"\\\\ ]{0,4}"].prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let key = prop_oneof![Just("id"), Just("n"), Just("event"), Just("ok")];
        let fields = prop::collection::vec((key.prop_map(String::from), inner.clone()), 0..4);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            fields.prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn any_written_answer_is_read_unchanged(
        received in prop::collection::vec((any::<bool>(), payload()), 0..8),
    ) {
        let mut shown = Shown::default();
        let mut text = "a connects\n".to_owned();
        let mut written = Vec::new();
        for (is_event, payload) in received {
            let what = if is_event { What::Event("e".into()) } else { What::Ack };
            let answer = Answer { client: "a".into(), what, arguments: vec![payload] };
            text.push_str(&format!("  {}\n", shown.write(&answer)));
            written.push(answer);
        }
        let script = Script::parse(&text);
        prop_assert_eq!(answers(&script.map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?), written);
    }
}

#[test]
fn an_object_that_changed_is_shown_in_full() {
    let mut shown = Shown::default();
    let mut write = |object| {
        let what = What::Event("e".into());
        shown.write(&Answer { client: "a".into(), what, arguments: vec![object] })
    };
    assert_eq!(write(json!({ "id": "m", "n": 1 })), r#"a < e {"id":"m","n":1}"#);
    assert_eq!(write(json!({ "id": "m", "n": 1 })), "a < e <m>");
    assert_eq!(write(json!({ "id": "m", "n": 2 })), r#"a < e {"id":"m","n":2}"#);
    assert_eq!(write(json!({ "id": "m", "n": 1 })), r#"a < e {"id":"m","n":1}"#);
}

#[test]
fn a_short_form_that_stands_for_nothing_is_named_with_its_place() {
    for (answer, expected) in [
        ("<message-7>", "2:9: <message-7> was not shown above"),
        (r#"{"ok":true,...x}"#, "2:9: a has received no x in this step above"),
        (r#"{"ok":tru,"m":<a>}"#, "2:18: expected JSON: expected ident"),
        (r#""x"*999999999"#, "2:9: a text has at most 16777216 bytes"),
    ] {
        let error = Script::parse(&format!("a connects\n  a < e {answer}")).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error} instead of {expected}");
    }
    let error = Script::parse("a connects\na > e <message-1>").unwrap_err().to_string();
    assert_eq!(error, "2:7: <message-1> was not shown above");
}
