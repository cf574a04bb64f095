//! The events of a batch see the changes of the events before them.

use serde_json::{json, value::to_raw_value};

use super::*;
use crate::{
    contract::Incoming,
    events::{Ack, Step},
};

fn event(name: &str, payload: serde_json::Value) -> ClientEvent {
    let payload = to_raw_value(&payload).unwrap();
    ClientEvent::decode(&Incoming { name, payload: Some(&payload) }).unwrap()
}

fn send(
    conversation: &str,
    sender: &str,
    recipient: Option<&str>,
    message: &str,
) -> (Actor, ClientEvent) {
    let payload = json!({
        "conversationId": conversation, "recipientId": recipient, "message": message,
    });
    (by(sender), event("send-message", payload))
}

fn join(conversation: &str, user: &str) -> (Actor, ClientEvent) {
    (by(user), event("join-conversation", json!({ "conversationId": conversation })))
}

fn by(user: &str) -> Actor {
    Actor::new(id(user))
}

fn id(text: &str) -> Id {
    text.parse().unwrap()
}

/// Decides the events in one batch, on an empty storage.
fn decide(batch: &[(Actor, ClientEvent)]) -> Plan {
    let mut planner = Planner::new(None, false, false);
    let events = batch.iter().map(|(by, event)| (by, event));
    let lookup = planner.lookup(events.clone());
    let found = Found {
        unread: lookup.all_unread.into_iter().map(|key| (key, Unread::default())).collect(),
        ..Found::default()
    };
    planner.plan(events, found)
}

fn steps(outcome: &Result<Outcome, Refusal>) -> &[Step] {
    &outcome.as_ref().unwrap().steps
}

#[test]
fn a_stranger_who_joins_before_a_conversation_begins_gets_no_history() {
    let Plan { outcomes, .. } = decide(&[
        join("c1", "mallory"),
        send("c1", "alice", Some("bob"), "Only for Bob"),
        join("c1", "bob"),
        join("c1", "mallory"),
    ]);
    assert!(matches!(steps(&outcomes[0]), [Step::Enter(_), Step::History { page: None, .. }]));
    assert!(matches!(steps(&outcomes[2]), [Step::Enter(_), Step::History { page: Some(_), .. }]));
    assert!(matches!(outcomes[3], Err(Refusal::NotAParticipant)));
}

#[test]
fn the_first_message_begins_the_conversation_for_those_after_it() {
    let Plan { outcomes, writes } = decide(&[
        send("c1", "alice", Some("bob"), "The first makes the conversation"),
        send("c1", "alice", Some("carol"), "and Carol is not in it"),
        send("c1", "bob", None, "but Bob is"),
    ]);
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok());
    assert!(matches!(outcomes[1], Err(Refusal::NotAParticipant)));
    let begun = writes.iter().filter(|write| matches!(write, Write::Conversation { .. }));
    assert_eq!(begun.count(), 1);
}

#[test]
fn users_who_wait_for_an_open_room_become_participants_in_the_order_they_joined() {
    let Plan { outcomes, writes } = decide(&[
        join("lobby", "bob"),
        join("lobby", "alice"),
        join("lobby", "bob"),
        send("lobby", "alice", None, "Hello"),
    ]);
    let [Step::Message { audience, .. }] = steps(&outcomes[3]) else { panic!("not sent") };
    assert_eq!(audience.size(), 2);
    let Write::Conversation { kind: Kind::Open, participants, .. } = &writes[0] else {
        panic!("not begun")
    };
    assert_eq!(*participants, ["bob", "alice"].map(id));
}

#[test]
fn a_retry_in_the_same_batch_is_the_same_message() {
    let once = || {
        let payload = json!({
            "conversationId": "c1", "message": "Once", "clientMessageId": "k1",
        });
        (by("alice"), event("send-message", payload))
    };
    let Plan { outcomes, writes } = decide(&[once(), once()]);
    let [Step::Message { message, .. }] = steps(&outcomes[0]) else { panic!("not sent") };
    let [Step::ToAsker(packet)] = steps(&outcomes[1]) else { panic!("sent twice") };
    assert_eq!(packet.payload.get(), serde_json::to_string(&**message).unwrap());
    assert_eq!(writes.iter().filter(|write| matches!(write, Write::Message { .. })).count(), 1);
}

#[test]
fn marking_all_marks_a_message_of_the_same_batch_and_only_once() {
    let mark = || (by("bob"), event("mark-as-read", json!({ "conversationId": "c1" })));
    let Plan { outcomes, writes } =
        decide(&[send("c1", "alice", Some("bob"), "Read at once"), mark(), mark()]);
    let [Step::Message { message, .. }] = steps(&outcomes[0]) else { panic!("not sent") };
    let marked = |write: &Write| match write {
        Write::Receipts { messages, .. } => Some(messages.clone()),
        _ => None,
    };
    let marked: Vec<_> = writes.iter().filter_map(marked).collect();
    assert_eq!(marked, [vec![message.id], vec![]]);
    assert!(matches!(steps(&outcomes[1]), [Step::ToRoom { .. }]));
    assert!(steps(&outcomes[2]).is_empty());
}

#[test]
fn an_event_touches_the_conversations_that_it_writes() {
    let Plan { outcomes, .. } = decide(&[
        send("c1", "alice", Some("bob"), "Hello"),
        (by("bob"), event("typing-start", json!({ "conversationId": "c1" }))),
        (by("bob"), event("mark-as-read", json!({ "conversationId": "c1" }))),
    ]);
    let touched: Vec<_> =
        outcomes.iter().map(|outcome| outcome.as_ref().unwrap().touched.clone()).collect();
    assert_eq!(touched, [Some(id("c1")), None, Some(id("c1"))]);
    assert!(matches!(outcomes[1].as_ref().unwrap().ack, Ack::Plain));
}
