//! MongoDB goes away and returns: no confirmed message is lost, doubled or out of order.

use std::{collections::HashSet, sync::Arc, time::Duration};

use mongodb::{
    Client as Mongo,
    bson::{Document, doc},
};
use radio_istic::{client::Client, config::Settings};
use serde_json::{Value, json};
use tokio::{io::copy_bidirectional, net::TcpListener, sync::Semaphore};

use crate::{
    mongo,
    process::Process,
    support::{Server, history, within},
};

async fn on(uri: String) -> Server {
    on_in(uri, tempfile::tempdir().unwrap()).await
}

async fn on_in(uri: String, directory: tempfile::TempDir) -> Server {
    let settings = Settings { mongodb_uri: Some(uri), ..Settings::default() };
    Server::start_with(directory, settings).await
}

fn is_healthy(health: &Value) -> bool {
    health["status"] == "healthy"
}

async fn send(client: &mut Client, conversation: &str, content: &str) -> Value {
    let message =
        json!({ "conversationId": conversation, "recipientId": "bob", "message": content });
    within(client.ask("send-message", message)).await.unwrap()
}

/// The messages of a conversation as MongoDB has them, in the order of history.
async fn stored(uri: &str, conversation: &str) -> Vec<Document> {
    let client = Mongo::with_uri_str(uri).await.unwrap();
    let messages = client.default_database().unwrap().collection::<Document>("messages");
    let mut cursor = messages
        .find(doc! { "conversation": conversation })
        .sort(doc! { "createdAt": 1, "_id": 1 })
        .await
        .unwrap();
    let mut stored = Vec::new();
    while cursor.advance().await.unwrap() {
        stored.push(cursor.deserialize_current().unwrap());
    }
    stored
}

fn contents(documents: &[Document]) -> Vec<&str> {
    documents.iter().map(|document| document.get_str("content").unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "slow"]
async fn messages_sent_while_mongodb_is_away_are_stored_when_it_returns() {
    let mut mongodb = mongo::Server::start().await;
    let uri = mongodb.uri("chat");
    let server = on(uri.clone()).await;
    let mut alice = server.user("alice").await;
    let mut bob = server.user("bob").await;
    let opened = json!({ "conversationId": "lobby", "message": "An open room" });
    assert_eq!(within(alice.ask("send-message", opened)).await.unwrap()["ok"], true);
    assert_eq!(send(&mut alice, "c1", "before").await["ok"], true);
    let before = within(bob.event("receive-message")).await.unwrap();

    mongodb.kill();
    // The first event waits until MongoDB counts as away; the next ones do not.
    let sent = send(&mut alice, "c1", "meanwhile").await;
    assert_eq!(sent["ok"], true, "{sent}");
    assert_eq!(within(bob.event("receive-message")).await.unwrap()["content"], "meanwhile");
    assert_eq!(within(alice.event("message-delivered")).await.unwrap()["status"], "delivered");
    // One conversation begins, and a stranger still has no access to the known one.
    assert_eq!(send(&mut alice, "c2", "new").await["ok"], true);
    let mut mallory = server.user("mallory").await;
    let refused =
        within(mallory.ask("join-conversation", json!({ "conversationId": "c1" }))).await.unwrap();
    assert_eq!(refused["error"]["code"], "not_a_participant");
    // A user who joins an open room becomes a participant.
    let joined = within(mallory.ask("join-conversation", json!({ "conversationId": "lobby" })))
        .await
        .unwrap();
    assert_eq!(joined["ok"], true, "{joined}");
    let said = json!({ "conversationId": "lobby", "message": "Hello" });
    assert_eq!(within(alice.ask("send-message", said)).await.unwrap()["ok"], true);
    within(mallory.event("receive-message")).await.unwrap();
    // The history is that of the outbox, and says so; receipts go on.
    let joined =
        within(bob.ask("join-conversation", json!({ "conversationId": "c1" }))).await.unwrap();
    assert_eq!(joined["partial"], true);
    assert_eq!(joined["messages"].as_array().unwrap().len(), 1);
    let ids = json!([before["id"], sent["message"]["id"]]);
    let read = json!({ "conversationId": "c1", "messageIds": ids });
    let read = within(bob.ask("mark-as-read", read)).await.unwrap();
    assert_eq!(read["messageIds"], ids);
    within(alice.event("messages-read")).await.unwrap();
    let health = server.health(|health| health["status"] == "degraded").await;
    assert_eq!(
        (&health["storage"]["connected"], &health["storage"]["pending"]),
        (&json!(false), &json!(6))
    );

    mongodb.run().await;
    let health = server.health(is_healthy).await;
    assert_eq!(health["storage"]["pending"], 0);
    assert_eq!(send(&mut alice, "c1", "after").await["ok"], true);
    let documents = stored(&uri, "c1").await;
    assert_eq!(contents(&documents), ["before", "meanwhile", "after"]);
    let readers = |document: &Document| document.get_array("readBy").unwrap().len();
    assert_eq!(documents.iter().map(readers).collect::<Vec<_>>(), [1, 1, 0]);
    let joined =
        within(bob.ask("join-conversation", json!({ "conversationId": "c1" }))).await.unwrap();
    assert_eq!(joined.get("partial"), None);
    assert_eq!(joined["messages"].as_array().unwrap().len(), 3);
    assert_eq!(contents(&stored(&uri, "lobby").await), ["An open room", "Hello"]);
    let list = within(mallory.ask("list-conversations", json!({}))).await.unwrap();
    assert_eq!(list["conversations"][0]["conversationId"], "lobby");
    // Bob has read two of Alice's three messages in the one, and none in the other.
    let list = within(bob.ask("list-conversations", json!({}))).await.unwrap();
    let unread: Vec<_> =
        list["conversations"].as_array().unwrap().iter().map(|one| &one["unreadCount"]).collect();
    assert_eq!(unread, [&json!(1), &json!(1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "slow"]
async fn a_server_starts_without_mongodb_and_survives_its_own_death_too() {
    let mut mongodb = mongo::Server::start().await;
    let uri = mongodb.uri("chat");
    mongodb.kill();
    let directory = tempfile::tempdir().unwrap();
    let start = || Process::start_on_mongodb(directory.path(), &uri);
    let write = async |server: &Process, contents: [&str; 2]| {
        let mut alice = within(Client::connect(&server.url)).await.unwrap();
        for content in contents {
            let message = json!({
                "conversationId": "c1", "senderId": "alice", "recipientId": "bob", "message": content,
                "clientMessageId": content,
            });
            assert_eq!(within(alice.ask("send-message", message)).await.unwrap()["ok"], true);
        }
    };
    let server = start();
    write(&server, ["1", "2"]).await;
    let mut bob = within(Client::connect(&server.url)).await.unwrap();
    let read = json!({ "conversationId": "c1", "userId": "bob" });
    let read = within(bob.ask("mark-as-read", read)).await.unwrap();
    assert_eq!(read["messageIds"].as_array().unwrap().len(), 2);
    server.kill();
    // The second start on the outbox knows the confirmed messages, and a retry finds them.
    let server = start();
    write(&server, ["2", "3"]).await;
    assert_eq!(history(&server.url, "c1", "bob").await.len(), 3);
    server.kill();

    mongodb.run().await;
    let server = start();
    within(async {
        while stored(&uri, "c1").await.len() < 3 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    write(&server, ["3", "4"]).await;
    let documents = stored(&uri, "c1").await;
    assert_eq!(contents(&documents), ["1", "2", "3", "4"]);
    let readers = |document: &Document| document.get_array("readBy").unwrap().len();
    assert_eq!(documents.iter().map(readers).collect::<Vec<_>>(), [1, 1, 0, 0]);
    let mut bob = within(Client::connect(&server.url)).await.unwrap();
    let list = json!({ "userId": "bob" });
    let list = within(bob.ask("list-conversations", list)).await.unwrap();
    assert_eq!(list["conversations"][0]["unreadCount"], 2);
    server.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "slow"]
async fn everything_is_killed_in_the_middle_of_traffic_and_every_confirmed_message_is_there_once() {
    const WRITERS: usize = 4;
    let mut mongodb = mongo::Server::start().await;
    let uri = mongodb.uri("chat");
    let directory = tempfile::tempdir().unwrap();
    let server = Process::start_on_mongodb(directory.path(), &uri);
    let confirmed_so_far = Arc::new(Semaphore::new(0));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (url, so_far) = (server.url.clone(), confirmed_so_far.clone());
            tokio::spawn(async move {
                let mut client = Client::connect(&url).await.unwrap();
                let mut confirmed = Vec::new();
                for number in 0_usize.. {
                    let message = json!({
                        "conversationId": format!("c{writer}"), "recipientId": "bob",
                        "senderId": format!("writer-{writer}"), "message": number.to_string(),
                    });
                    match client.ask("send-message", message).await {
                        Ok(answer) if answer["ok"] == true => confirmed.push(number.to_string()),
                        _ => break,
                    }
                    so_far.add_permits(1);
                }
                confirmed
            })
        })
        .collect();
    let traffic = async |messages: u32| {
        within(confirmed_so_far.acquire_many(messages)).await.unwrap().forget()
    };
    traffic(100).await;
    mongodb.kill();
    traffic(100).await;
    server.kill();
    let mut confirmed = Vec::new();
    for writer in writers {
        confirmed.push(within(writer).await.unwrap());
    }

    let server = Process::start_on_mongodb(directory.path(), &uri);
    mongodb.run().await;
    for (writer, confirmed) in confirmed.iter().enumerate() {
        let conversation = format!("c{writer}");
        within(async {
            loop {
                let stored: HashSet<String> = contents(&stored(&uri, &conversation).await)
                    .into_iter()
                    .map(Into::into)
                    .collect();
                if confirmed.iter().all(|content| stored.contains(content)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        let stored = stored(&uri, &conversation).await;
        let numbers: Vec<usize> =
            contents(&stored).iter().map(|content| content.parse().unwrap()).collect();
        assert!(
            numbers.is_sorted_by(|one, other| one < other),
            "in order, and each once: {numbers:?}"
        );
    }
    server.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "slow"]
async fn a_database_that_accepts_and_never_answers_is_away_after_five_seconds() {
    let mongodb = mongo::Server::start().await;
    // The proxy passes everything on until it stalls.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap();
    let port = mongodb.port();
    let (stall, stalled) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut stalled = stalled.clone();
            tokio::spawn(async move {
                let far = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
                let Ok(mut far) = far else { return };
                let stalls = tokio::select! {
                    _ = copy_bidirectional(&mut near, &mut far) => false,
                    stalled = stalled.wait_for(|stalled| *stalled) => stalled.is_ok(),
                };
                if stalls {
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    let server = on(format!("mongodb://{proxy}/chat?directConnection=true")).await;
    let mut alice = server.user("alice").await;
    assert_eq!(send(&mut alice, "c1", "before").await["ok"], true);
    stall.send(true).unwrap();
    let asked_at = std::time::Instant::now();
    assert_eq!(send(&mut alice, "c1", "meanwhile").await["ok"], true);
    // A promise of the contract: an event waits at most five seconds for each of two questions.
    assert!(asked_at.elapsed() < Duration::from_secs(12));
    let health = server.health(|health| health["status"] == "degraded").await;
    assert_eq!(health["storage"]["pending"], 1);
    stall.send(false).unwrap();
    server.health(is_healthy).await;
    assert_eq!(contents(&stored(&mongodb.uri("chat"), "c1").await), ["before", "meanwhile"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "slow"]
async fn a_document_that_mongodb_refuses_is_set_aside_and_the_others_pass() {
    let mut mongodb = mongo::Server::start().await;
    let uri = mongodb.uri("chat");
    let client = Mongo::with_uri_str(&uri).await.unwrap();
    let validator = doc! { "content": { "$not": { "$regex": "poison" } } };
    let database = client.database("chat");
    database.create_collection("messages").validator(validator).await.unwrap();

    let server = on(uri.clone()).await;
    let mut alice = server.user("alice").await;
    // While MongoDB answers, the sender gets the refusal.
    assert_eq!(send(&mut alice, "c1", "poison").await["error"]["code"], "storage_unavailable");
    assert_eq!(send(&mut alice, "c1", "1").await["ok"], true);
    mongodb.kill();
    for content in ["2", "poison", "3"] {
        assert_eq!(send(&mut alice, "c1", content).await["ok"], true);
    }
    mongodb.run().await;
    let health = server.health(|health| health["storage"]["pending"] == 0).await;
    assert_eq!(health["storage"]["rejected"], 1);
    assert_eq!(contents(&stored(&uri, "c1").await), ["1", "2", "3"]);
    let directory = server.stop().await;
    let outbox = rusqlite::Connection::open(directory.path().join("chat.outbox.db")).unwrap();
    let document: String =
        outbox.query_one("SELECT document FROM rejected", [], |row| row.get(0)).unwrap();
    assert!(document.contains("poison"), "{document}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "slow"]
async fn a_message_to_a_foreign_conversation_is_set_aside_when_mongodb_returns() {
    let mut mongodb = mongo::Server::start().await;
    let uri = mongodb.uri("chat");
    let server = on(uri.clone()).await;
    let mut alice = server.user("alice").await;
    assert_eq!(send(&mut alice, "c1", "Between us").await["ok"], true);
    let directory = server.stop().await;
    mongodb.kill();
    // A server that started without MongoDB does not know the conversation.
    let server = on_in(uri.clone(), directory).await;
    let mut mallory = server.user("mallory").await;
    assert_eq!(send(&mut mallory, "c1", "Let me in").await["ok"], true);
    mongodb.run().await;
    let health = server.health(|health| health["storage"]["pending"] == 0).await;
    assert_eq!(health["storage"]["rejected"], 1);
    assert_eq!(contents(&stored(&uri, "c1").await), ["Between us"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "slow"]
async fn a_server_that_is_no_replica_set_will_do() {
    let mut mongodb = mongo::Server::start_standalone().await;
    let uri = mongodb.uri("chat");
    let server = on(uri.clone()).await;
    let mut alice = server.user("alice").await;
    assert_eq!(send(&mut alice, "c1", "before").await["ok"], true);
    server.health(is_healthy).await;
    mongodb.kill();
    assert_eq!(send(&mut alice, "c1", "meanwhile").await["ok"], true);
    mongodb.run().await;
    server.health(is_healthy).await;
    assert_eq!(send(&mut alice, "c1", "after").await["ok"], true);
    assert_eq!(contents(&stored(&uri, "c1").await), ["before", "meanwhile", "after"]);
    let mut bob = server.user("bob").await;
    let list = within(bob.ask("list-conversations", json!({}))).await.unwrap();
    assert_eq!(list["conversations"][0]["unreadCount"], 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "slow"]
async fn with_tokens_a_conversation_that_cannot_be_looked_up_is_refused() {
    const SECRET: &str = "a-secret-that-is-longer-than-32-bytes";
    let mut mongodb = mongo::Server::start().await;
    let settings = Settings {
        mongodb_uri: Some(mongodb.uri("chat")),
        jwt_secret: Some(SECRET.into()),
        ..Settings::default()
    };
    let server = Server::start_with(tempfile::tempdir().unwrap(), settings).await;
    let tokens = radio_istic::tokens::Tokens::signed_with(SECRET).unwrap();
    let connect = async |user: &str| {
        let mut client = server.client().await;
        let token = tokens.sign(&user.parse().unwrap(), Duration::from_secs(600)).unwrap();
        within(client.ask("authenticate", json!({ "token": token }))).await.unwrap();
        client
    };
    let mut alice = connect("alice").await;
    assert_eq!(send(&mut alice, "known", "Before").await["ok"], true);
    mongodb.kill();
    assert_eq!(send(&mut alice, "known", "Meanwhile").await["ok"], true, "it is remembered");
    let mut mallory = connect("mallory").await;
    assert_eq!(send(&mut mallory, "known", "Me too").await["error"]["code"], "not_a_participant");
    for event in ["send-message", "join-conversation", "typing-start", "mark-as-read"] {
        let payload = json!({ "conversationId": "somebody-else-s", "message": "Let me in" });
        let answer = within(mallory.ask(event, payload)).await.unwrap();
        assert_eq!(answer["error"]["code"], "storage_unavailable", "{event}");
    }
}
