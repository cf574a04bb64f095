//! The commands for a file: copy, check, export, import, migration to MongoDB.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use mongodb::bson::{Document, doc};
use radio_istic::client::Client;
use serde_json::{Value, json};

use crate::{
    mongo,
    process::{BINARY, Process},
    support::{PATIENCE, history, within},
};

/// Runs a command in a directory.
fn run(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    command.args(arguments).current_dir(directory).env_clear().env("SQLITE_PATH", "chat.db");
    command.stdin(Stdio::null()).output().unwrap()
}

/// Runs a command that has to succeed, and returns its output.
fn good(directory: &Path, arguments: &[&str]) -> String {
    let output = run(directory, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command that has to fail, and returns its error.
fn bad(directory: &Path, arguments: &[&str]) -> String {
    let output = run(directory, arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// Conversations of every kind, with receipts, retries and odd texts.
async fn talk(url: &str) {
    let mut alice = within(Client::connect(url)).await.unwrap();
    let profile = json!({ "id": "alice", "name": "Alice \"A\"", "email": "alice@example.com" });
    within(alice.ask("authenticate", profile)).await.unwrap();
    let mut bob = within(Client::connect(url)).await.unwrap();
    within(bob.ask("authenticate", json!({ "id": "bob" }))).await.unwrap();
    let mut ids = Vec::new();
    for number in 0..30 {
        let message = json!({
            "conversationId": "c1", "recipientId": "bob", "message": format!("🎉 {number}\n\"\\"),
            "clientMessageId": format!("key-{number}"),
        });
        let mut sent = within(alice.ask("send-message", message)).await.unwrap();
        ids.push(sent["message"]["id"].take());
    }
    let read = json!({ "conversationId": "c1", "messageIds": &ids[..10] });
    within(bob.ask("mark-as-read", read)).await.unwrap();
    let more = json!({ "conversationId": "c1", "recipientId": "bob", "message": "More" });
    within(alice.ask("send-message", more)).await.unwrap();
    for user in [&mut alice, &mut bob] {
        let message = json!({ "conversationId": "lobby", "message": "Hello all" });
        within(user.ask("send-message", message)).await.unwrap();
    }
    within(bob.ask("mark-as-read", json!({ "conversationId": "lobby" }))).await.unwrap();
    let hex = json!({ "conversationId": "65f0a11ce000000000000001", "recipientId": "65f0b0b00000000000000002", "message": "Ids of MongoDB's" });
    within(alice.ask("send-message", hex)).await.unwrap();
}

async fn listed(url: &str, user: &str) -> Value {
    let mut client = within(Client::connect(url)).await.unwrap();
    within(client.ask("list-conversations", json!({ "userId": user }))).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_copy_made_while_fifty_write_has_every_message_that_was_confirmed_before() {
    let directory = tempfile::tempdir().unwrap();
    let server = Process::start(directory.path());
    let (stop, stopped) = tokio::sync::watch::channel(());
    let confirmed = std::sync::Arc::new(std::sync::Mutex::new(Vec::<Value>::new()));
    let mut writers = Vec::new();
    for writer in 0..50 {
        let (url, confirmed) = (server.url.clone(), confirmed.clone());
        let stopped = stopped.clone();
        writers.push(tokio::spawn(async move {
            let mut client = within(Client::connect(&url)).await.unwrap();
            let mut number = 0;
            while !stopped.has_changed().unwrap_or(true) {
                number += 1;
                let message = json!({
                    "conversationId": "room", "senderId": format!("user-{writer}"),
                    "message": format!("{number} of {writer}"),
                });
                let mut answer = within(client.ask("send-message", message)).await.unwrap();
                confirmed.lock().unwrap().push(answer["message"]["id"].take());
            }
        }));
    }
    within(async {
        while confirmed.lock().unwrap().len() < 1_000 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let before = confirmed.lock().unwrap().clone();
    let path = directory.path().to_owned();
    let told =
        tokio::task::spawn_blocking(move || good(&path, &["backup", "copy.db"])).await.unwrap();
    drop(stop);
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(told.contains("copy.db: "), "{told}");
    assert!(confirmed.lock().unwrap().len() > before.len(), "nobody had to wait for it");
    let checked = good(directory.path(), &["check", "copy.db"]);
    assert!(checked.contains("good"), "{checked}");
    let refused = bad(directory.path(), &["backup", "copy.db"]);
    assert!(refused.contains("there is a file of this name already"), "{refused}");
    server.kill();

    let copied = tempfile::tempdir().unwrap();
    std::fs::copy(directory.path().join("copy.db"), copied.path().join("chat.db")).unwrap();
    let server = Process::start(copied.path());
    let kept = history(&server.url, "room", "user-0").await;
    let kept: std::collections::HashSet<_> =
        kept.iter().map(|message| message["id"].as_str().unwrap()).collect();
    let missing = before.iter().filter(|id| !kept.contains(id.as_str().unwrap())).count();
    assert_eq!(missing, 0);
    server.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_exports_and_imports_keep_the_same_data() {
    let directory = tempfile::tempdir().unwrap();
    let server = Process::start(directory.path());
    talk(&server.url).await;
    let (list, messages) =
        (listed(&server.url, "bob").await, history(&server.url, "c1", "bob").await);
    // The server runs during the export.
    let exported = good(directory.path(), &["export"]);
    assert!(bad(directory.path(), &["import", "nothing"]).contains("another radio-istic is using"));
    server.stop();

    let other = tempfile::tempdir().unwrap();
    let lines = other.path().join("lines.jsonl");
    std::fs::write(&lines, &exported).unwrap();
    for _ in 0..2 {
        good(other.path(), &["import", "lines.jsonl"]);
        assert_eq!(good(other.path(), &["export"]), exported);
    }
    good(other.path(), &["check"]);
    let server = Process::start(other.path());
    assert_eq!(listed(&server.url, "bob").await, list);
    assert_eq!(history(&server.url, "c1", "bob").await, messages);
    server.stop();

    // An invalid line: no part of the file is imported.
    let third = tempfile::tempdir().unwrap();
    let broken = exported.replacen("\"isOpen\":true", "\"isOpen\":1", 1);
    std::fs::write(third.path().join("lines.jsonl"), broken).unwrap();
    let told = bad(third.path(), &["import", "lines.jsonl"]);
    let number = exported.lines().position(|line| line.contains("\"isOpen\":true")).unwrap() + 1;
    assert!(told.contains(&format!("line {number}: invalid type")), "{told}");
    assert_eq!(good(third.path(), &["export"]).lines().count(), 1);
}

#[test]
fn check_names_the_defect_of_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    assert!(bad(path, &["check"]).contains("chat.db: there is no such file"));
    std::fs::write(path.join("text.db"), "no database, but long enough to be asked").unwrap();
    assert!(bad(path, &["check", "text.db"]).contains("not an SQLite database"));
    let foreign = rusqlite::Connection::open(path.join("foreign.db")).unwrap();
    foreign.execute_batch("CREATE TABLE t (x)").unwrap();
    assert!(bad(path, &["check", "foreign.db"]).contains("belongs to another application"));

    let server = Process::start(path);
    server.kill();
    good(path, &["check"]);
    let file = rusqlite::Connection::open(path.join("chat.db")).unwrap();
    file.execute_batch(
        "PRAGMA foreign_keys = OFF; INSERT INTO participants (conversation, user) VALUES ('gone', 'x')",
    )
    .unwrap();
    assert!(bad(path, &["check"]).contains("refers to one that is not there"));
}

async fn documents(uri: &str, collection: &str) -> Vec<Document> {
    let client = mongodb::Client::with_uri_str(uri).await.unwrap();
    let collection = client.default_database().unwrap().collection::<Document>(collection);
    let mut cursor = collection.find(doc! {}).sort(doc! { "_id": 1 }).await.unwrap();
    let mut documents = Vec::new();
    while cursor.advance().await.unwrap() {
        documents.push(cursor.deserialize_current().unwrap());
    }
    documents
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "slow"]
async fn a_killed_migration_to_mongodb_can_be_restarted_and_completes() {
    const MANY: usize = 20_000;
    let mongodb = mongo::Server::start().await;
    let uri = mongodb.uri("moved");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let server = Process::start(path);
    talk(&server.url).await;
    let (list, messages) =
        (listed(&server.url, "bob").await, history(&server.url, "c1", "bob").await);
    assert!(bad(path, &["migrate", "--to", &uri]).contains("another radio-istic is using"));
    server.stop();
    let file = rusqlite::Connection::open(path.join("chat.db")).unwrap();
    let fill = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {MANY})
        INSERT INTO messages SELECT 'lobby', unhex(printf('65000000%016x', i)), 'alice', 'Alice', NULL,
            'Number ' || i, 1700000000000 + i, NULL FROM n"
    );
    file.execute_batch(&fill).unwrap();
    drop(file);

    let migrate = || {
        let mut command = Command::new(BINARY);
        command.args(["migrate", "--to", &uri]).current_dir(path).env_clear();
        command
            .env("SQLITE_PATH", "chat.db")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut first = migrate();
    let begun = std::time::Instant::now();
    let some = loop {
        let count = documents(&uri, "messages").await.len();
        if count > 0 {
            break count;
        }
        assert!(begun.elapsed() < PATIENCE, "it writes nothing");
    };
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(some < MANY, "it was killed in the middle");

    let child = migrate();
    let second = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    let second = tokio::time::timeout(Duration::from_secs(120), second).await.unwrap().unwrap();
    assert!(second.status.success(), "{second:?}");
    let told = String::from_utf8(second.stdout).unwrap();
    assert!(
        told.starts_with(&format!("{} messages, 3 conversations, 2 users", MANY + 34)),
        "{told}"
    );
    assert_eq!(documents(&uri, "messages").await.len(), MANY + 34);
    assert_eq!(documents(&uri, "conversations").await.len(), 3);

    // Clients see no difference.
    let server = Process::start_on_mongodb(path, &uri);
    assert_eq!(history(&server.url, "c1", "bob").await, messages);
    let moved = listed(&server.url, "bob").await;
    let counts = |list: &Value| {
        let conversations = list["conversations"].as_array().unwrap();
        let mut counts: Vec<_> = conversations
            .iter()
            .map(|one| {
                (
                    one["conversationId"].to_string(),
                    one["unreadCount"].clone(),
                    one["isOpen"].clone(),
                    one["participants"].clone(),
                )
            })
            .collect();
        counts.sort_by(|one, other| one.0.cmp(&other.0));
        counts
    };
    assert_eq!(counts(&moved), counts(&list));
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_and_the_health_command_show_the_state_of_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let server = Process::start(directory.path());
    talk(&server.url).await;
    let mut client = within(Client::connect(&server.url)).await.unwrap();
    within(client.ask("no-such-event", json!({}))).await.unwrap();
    let get =
        async |path: &str| within(reqwest::get(format!("{}{path}", server.url))).await.unwrap();
    let metrics = get("/metrics").await;
    assert_eq!(metrics.headers()["content-type"], "text/plain; version=0.0.4");
    let metrics = metrics.text().await.unwrap();
    for line in [
        "radio_istic_connections 1",
        "radio_istic_users_online 0",
        r#"radio_istic_events_total{event="send-message",outcome="ok"} 34"#,
        r#"radio_istic_events_total{event="unknown",outcome="unknown_event"} 1"#,
        "radio_istic_confirmation_seconds_count 34",
        r#"radio_istic_commit_batch_size_bucket{le="512"}"#,
        "radio_istic_commit_seconds_count",
        "radio_istic_outbox_pending 0",
    ] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
    let health = good(directory.path(), &["health", "--url", &server.url]);
    assert!(health.contains(r#""status":"healthy""#), "{health}");
    let url = server.url.clone();
    server.stop();
    assert!(!bad(directory.path(), &["health", "--url", &url]).is_empty());

    let without = Process::start_with(directory.path(), &[("METRICS", "off")]);
    let answer = within(reqwest::get(format!("{}/metrics", without.url))).await.unwrap();
    assert_eq!(answer.status(), 404);
    without.stop();
}

#[test]
fn a_platform_without_a_volume_causes_a_warning() {
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let fly =
        Process::start_with(directory.path(), &[("FLY_APP_NAME", "chat"), ("HOST", "127.0.0.1")]);
    let log = fly.log();
    assert!(log.contains("TRUSTED_PROXY=Fly-Client-IP"), "{log}");
    assert!(log.contains("fly volumes create"), "{log}");
    fly.stop();
    let render = Process::start_with(
        directory.path(),
        &[("RENDER", "true"), ("HOST", "127.0.0.1"), ("TRUSTED_PROXY", "CF-Connecting-IP")],
    );
    let log = render.log();
    assert!(log.contains("add a disk") && !log.contains("all clients count as one"), "{log}");
    render.stop();
}
