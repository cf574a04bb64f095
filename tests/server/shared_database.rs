//! The database is another backend's as well: the server reads its documents as they are, and keeps
//! unknown fields.

use futures_util::FutureExt;
use mongodb::{
    Collection,
    bson::{Bson, DateTime, Document, doc, oid::ObjectId},
};
use radio_istic::{client::Received, config::Settings};
use serde_json::json;

use crate::{
    mongo::Shared,
    support::{Server, within},
};

const ALICE: &str = "65f0a11ce000000000000001";
const BOB: &str = "65f0b0b00000000000000002";
const CONVERSATION: &str = "65f0c0c00000000000000003";

fn oid(hex: &str) -> ObjectId {
    hex.parse().unwrap()
}

fn date(milliseconds: i64) -> DateTime {
    DateTime::from_millis(1_762_857_000_000 + milliseconds)
}

async fn start(shared: &Shared) -> Server {
    let settings = Settings { mongodb_uri: Some(shared.uri.clone()), ..Settings::default() };
    Server::start_with(tempfile::tempdir().unwrap(), settings).await
}

fn collection(shared: &Shared, name: &str) -> Collection<Document> {
    shared.database.collection(name)
}

/// Documents of Mongoose: two users and their conversation.
async fn fixtures(shared: &Shared) {
    let users = [
        doc! { "_id": oid(ALICE), "name": "Alice", "email": "alice@example.com", "avatar": "/alice.jpg",
        "role": "admin", "status": "offline", "__v": 3 },
        doc! { "_id": oid(BOB), "name": "Bob", "email": "bob@example.com", "__v": 0 },
    ];
    collection(shared, "users").insert_many(users).await.unwrap();
    let conversation = doc! {
        "_id": oid(CONVERSATION), "participants": [oid(ALICE), BOB], "topic": "Chess", "lastMessageAt": date(3),
        "lastMessage": oid("65f000000000000000000013"), "unreadCount": { BOB: 2 }, "__v": 7,
    };
    collection(shared, "conversations").insert_one(conversation).await.unwrap();
    let messages = [
        // A message with all fields of Mongoose.
        doc! { "_id": oid("65f000000000000000000011"), "conversation": oid(CONVERSATION), "sender": oid(ALICE),
        "senderName": "Alice then", "senderAvatar": Bson::Null, "content": "First", "type": "text",
        "readBy": [{ "_id": ObjectId::new(), "user": oid(BOB), "readAt": date(9) }], "isDeleted": false,
        "createdAt": date(1), "updatedAt": date(1), "__v": 0, "mood": "good" },
        // A message with as few fields as possible, read by plain ids.
        doc! { "_id": oid("65f000000000000000000012"), "conversation": oid(CONVERSATION), "sender": ALICE,
        "content": "Second", "readBy": [oid(BOB), "carol"], "createdAt": date(2) },
        doc! { "_id": oid("65f000000000000000000013"), "conversation": oid(CONVERSATION), "sender": oid(ALICE),
        "content": "Third", "createdAt": date(3), "reactions": ["👍"] },
        doc! { "_id": oid("65f000000000000000000014"), "conversation": oid(CONVERSATION), "sender": oid(ALICE),
        "content": "Deleted", "isDeleted": true, "createdAt": date(4) },
    ];
    collection(shared, "messages").insert_many(messages).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(mongodb), ignore = "needs MongoDB or Python 3")]
async fn documents_of_mongoose_are_read_and_unknown_fields_stay() {
    let shared = Shared::new().await;
    fixtures(&shared).await;
    let server = start(&shared).await;
    let mut bob = server.user(BOB).await;

    let list = within(bob.ask("list-conversations", json!({}))).await.unwrap();
    let conversation = &list["conversations"][0];
    assert_eq!(conversation["conversationId"], CONVERSATION);
    assert_eq!((&conversation["isOpen"], &conversation["unreadCount"]), (&json!(false), &json!(2)));
    assert_eq!(conversation["lastMessage"]["content"], "Third");
    let alice = json!({ "id": ALICE, "name": "Alice", "avatar": "/alice.jpg", "online": false });
    assert_eq!(conversation["participants"][0], alice);

    let joined = within(bob.ask("join-conversation", json!({ "conversationId": CONVERSATION })))
        .await
        .unwrap();
    let messages = joined["messages"].as_array().unwrap();
    let shown: Vec<_> = messages
        .iter()
        .map(|one| {
            json!([
                one["content"],
                one["senderId"],
                one["senderName"],
                one["senderAvatar"],
                one["readBy"]
            ])
        })
        .collect();
    let expected = [
        json!(["First", ALICE, "Alice then", null, [BOB]]),
        json!(["Second", ALICE, "Alice", "/alice.jpg", [BOB, "carol"]]),
        json!(["Third", ALICE, "Alice", "/alice.jpg", []]),
    ];
    assert_eq!(shown, expected);
    assert_eq!(messages[0]["timestamp"], "2025-11-11T10:30:00.001Z");
    let page =
        json!({ "conversationId": CONVERSATION, "before": "65f000000000000000000013", "limit": 1 });
    let page = within(bob.ask("join-conversation", page)).await.unwrap();
    assert_eq!(
        (&page["messages"][0]["content"], &page["hasMore"]),
        (&json!("Second"), &json!(true))
    );

    // Only the third message is unread for Bob.
    let read =
        within(bob.ask("mark-as-read", json!({ "conversationId": CONVERSATION }))).await.unwrap();
    assert_eq!(read["messageIds"], json!(["65f000000000000000000013"]));
    let message =
        json!({ "conversationId": CONVERSATION, "recipientId": ALICE, "message": "Fourth" });
    let sent = within(bob.ask("send-message", message)).await.unwrap();
    let id = oid(sent["message"]["id"].as_str().unwrap());

    let third = collection(&shared, "messages")
        .find_one(doc! { "content": "Third" })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(third.get_array("reactions").unwrap().len(), 1);
    let receipt = third.get_array("readBy").unwrap()[0].as_document().unwrap();
    assert_eq!(receipt.get_object_id("user").unwrap(), oid(BOB));
    let conversation =
        collection(&shared, "conversations").find_one(doc! {}).await.unwrap().unwrap();
    assert_eq!(
        (conversation.get_str("topic").unwrap(), conversation.get_i32("__v").unwrap()),
        ("Chess", 7)
    );
    assert_eq!(conversation.get_object_id("lastMessage").unwrap(), id);
    let unread = conversation.get_document("unreadCount").unwrap();
    assert_eq!((unread.get_i32(ALICE).unwrap(), unread.get_i32(BOB).unwrap()), (1, 0));

    // The new message has Mongoose's shape.
    let mut fourth =
        collection(&shared, "messages").find_one(doc! { "_id": id }).await.unwrap().unwrap();
    assert!(fourth.get_datetime("createdAt").is_ok() && fourth.get_datetime("updatedAt").is_ok());
    fourth.remove("createdAt");
    fourth.remove("updatedAt");
    let expected = doc! {
        "_id": id, "conversation": oid(CONVERSATION), "sender": oid(BOB), "senderName": BOB, "senderAvatar": Bson::Null,
        "content": "Fourth", "type": "text", "readBy": [], "isDeleted": false, "__v": 0,
    };
    assert_eq!(fourth, expected);
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(mongodb), ignore = "needs MongoDB or Python 3")]
async fn users_have_their_status_and_no_user_is_made_up() {
    let shared = Shared::new().await;
    fixtures(&shared).await;
    let users = collection(&shared, "users");
    let status = async |wanted: &str| {
        within(async {
            loop {
                let alice = users.find_one(doc! { "_id": oid(ALICE) }).await.unwrap().unwrap();
                if alice.get_str("status").unwrap() == wanted {
                    return alice;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await
    };
    let server = start(&shared).await;
    let alice = server.user(ALICE).await;
    let _stranger = server.user("stranger").await;
    let document = status("online").await;
    assert!(!document.get_str("socketId").unwrap().is_empty());
    assert_eq!(
        (document.get_str("name").unwrap(), document.get_str("role").unwrap()),
        ("Alice", "admin")
    );
    alice.disconnect().await.unwrap();
    assert!(status("offline").await.get_datetime("lastSeen").is_ok());
    assert_eq!(users.count_documents(doc! {}).await.unwrap(), 2);

    // A server that stops in order leaves no user online.
    let _alice = server.user(ALICE).await;
    status("online").await;
    let directory = server.stop().await;
    status("offline").await;

    // A server that dies leaves users online. The next one corrects it.
    let process = crate::process::Process::start_on_mongodb(directory.path(), &shared.uri);
    let mut alice = within(radio_istic::client::Client::connect(&process.url)).await.unwrap();
    within(alice.ask("authenticate", json!({ "id": ALICE }))).await.unwrap();
    status("online").await;
    process.kill();
    let process = crate::process::Process::start_on_mongodb(directory.path(), &shared.uri);
    status("offline").await;
    process.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[cfg_attr(not(mongodb), ignore = "needs MongoDB or Python 3")]
async fn two_servers_that_write_to_one_conversation_count_right() {
    const EACH: usize = 30;
    let shared = Shared::new().await;
    let servers = [start(&shared).await, start(&shared).await];
    let mut first = servers[0].user("founder").await;
    let message = json!({ "conversationId": "c1", "recipientId": "reader", "message": "first" });
    within(first.ask("send-message", message)).await.unwrap();
    let mut writers = Vec::new();
    for server in &servers {
        let mut client = server.user("founder").await;
        writers.push(tokio::spawn(async move {
            for number in 0..EACH {
                let message = json!({ "conversationId": "c1", "message": number.to_string() });
                let answer = within(client.ask("send-message", message)).await.unwrap();
                assert_eq!(answer["ok"], true, "{answer}");
            }
        }));
    }
    for writer in writers {
        within(writer).await.unwrap();
    }
    let conversation =
        collection(&shared, "conversations").find_one(doc! {}).await.unwrap().unwrap();
    let unread = conversation.get_document("unreadCount").unwrap();
    assert_eq!(unread.get_i32("reader").unwrap() as usize, 1 + 2 * EACH);
    let newest = doc! { "createdAt": -1, "_id": -1 };
    let newest =
        collection(&shared, "messages").find_one(doc! {}).sort(newest).await.unwrap().unwrap();
    assert_eq!(
        conversation.get_datetime("lastMessageAt").unwrap(),
        newest.get_datetime("createdAt").unwrap()
    );
    // A change of the other backend takes effect at once.
    let remove = doc! { "$pull": { "participants": "founder" } };
    collection(&shared, "conversations").update_one(doc! {}, remove).await.unwrap();
    let message = json!({ "conversationId": "c1", "message": "Too late" });
    let answer = within(first.ask("send-message", message)).await.unwrap();
    assert_eq!(answer["error"]["code"], "not_a_participant");
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(mongodb), ignore = "needs MongoDB or Python 3")]
async fn a_removed_participant_receives_no_more_events() {
    let shared = Shared::new().await;
    let server = start(&shared).await;
    let mut alice = server.user("alice").await;
    let mut bob = server.user("bob").await;
    let begin = json!({ "conversationId": "c1", "recipientId": "bob", "message": "Hello" });
    let begun = within(alice.ask("send-message", begin)).await.unwrap();
    let join = json!({ "conversationId": "c1" });
    within(bob.ask("join-conversation", join.clone())).await.unwrap();
    let mut carol = server.user("carol").await;

    let change = doc! { "$set": { "participants": ["alice", "carol"] } };
    collection(&shared, "conversations").update_one(doc! {}, change).await.unwrap();
    // Bob's socket is still in the room.
    let message = json!({ "conversationId": "c1", "message": "Without Bob" });
    within(alice.ask("typing-start", join.clone())).await.unwrap();
    within(alice.ask("send-message", message)).await.unwrap();
    let read = json!({ "conversationId": "c1", "messageIds": [begun["message"]["id"]] });
    within(carol.ask("mark-as-read", read)).await.unwrap();
    for event in
        ["join-conversation", "send-message", "typing-start", "typing-stop", "mark-as-read"]
    {
        let payload = json!({ "conversationId": "c1", "message": "Am I still here?" });
        let answer = within(bob.ask(event, payload)).await.unwrap();
        assert_eq!(answer["error"]["code"], "not_a_participant", "{event}");
    }
    let list = within(bob.ask("list-conversations", json!({}))).await.unwrap();
    assert_eq!(list["conversations"], json!([]));
    // The answer above arrives after all that was sent to Bob.
    let about_it = ["receive-message", "user-typing", "messages-read"];
    let mut heard = Vec::new();
    while let Some(Ok(Some(received))) = bob.receive().now_or_never() {
        if let Received::Event { name, .. } = received
            && about_it.contains(&&*name)
        {
            heard.push(name);
        }
    }
    assert_eq!(heard, ["receive-message"], "only the first message");
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(mongodb), ignore = "needs MongoDB or Python 3")]
async fn every_legal_id_works_everywhere() {
    let shared = Shared::new().await;
    let server = start(&shared).await;
    let ids = [
        "a.b.c",
        "$set",
        "$where",
        "🎉",
        "%2E",
        "__proto__",
        "constructor",
        "{\"$gt\":\"\"}",
        "65F0A11CE000000000000001",
        "_id",
    ];
    for (number, id) in ids.into_iter().enumerate() {
        let mut odd = server.user(id).await;
        let conversation = format!("{id}-{number}");
        let message = json!({ "conversationId": conversation, "recipientId": "reader", "message": id, "clientMessageId": id });
        let sent = within(odd.ask("send-message", message)).await.unwrap();
        assert_eq!(sent["message"]["senderId"], id, "{sent}");
        let mut reader = server.user("reader").await;
        let reply = json!({ "conversationId": conversation, "message": "Hello" });
        assert_eq!(within(reader.ask("send-message", reply)).await.unwrap()["ok"], true);
        let list = within(odd.ask("list-conversations", json!({}))).await.unwrap();
        assert_eq!(list["conversations"][0]["unreadCount"], 1, "{list}");
        let read = within(odd.ask("mark-as-read", json!({ "conversationId": conversation })))
            .await
            .unwrap();
        assert_eq!(read["messageIds"].as_array().unwrap().len(), 1);
        let list = within(odd.ask("list-conversations", json!({}))).await.unwrap();
        assert_eq!(list["conversations"][0]["unreadCount"], 0, "{list}");
        let joined =
            within(reader.ask("join-conversation", json!({ "conversationId": conversation })))
                .await
                .unwrap();
        assert_eq!(joined["messages"][1]["readBy"], json!([id]));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(mongodb), ignore = "needs MongoDB or Python 3")]
async fn the_reads_have_their_indexes() {
    let shared = Shared::new().await;
    let server = start(&shared).await;
    // The server listens once the database is prepared.
    let _alice = server.user("alice").await;
    let names = collection(&shared, "messages").list_index_names().await.unwrap();
    for index in ["conversation_1_createdAt_1", "conversation_1_createdAt_1__id_1"] {
        assert!(names.iter().any(|name| name == index), "{names:?}");
    }
    let names = collection(&shared, "conversations").list_index_names().await.unwrap();
    assert!(names.iter().any(|name| name == "participants_1_lastMessageAt_-1__id_-1"), "{names:?}");
}
