//! `radio-istic replay`: its output, its exit codes, and the same result every time.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::Arc,
};

use radio_istic::{
    client::TransportKind,
    transcript::{Stage, replay},
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::{
    conversations::{conversations, on_mongodb},
    javascript::node,
    process::BINARY,
    support::package,
};

/// A conversation with the answers of this server.
const TALK: &str = "tests/replay/two-people.txt";

fn replay_command(arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.arg("replay").args(arguments).current_dir(package("")).env_clear();
    command
}

fn run(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = replay_command(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// A file in a directory of its own.
fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("talk.txt");
    std::fs::write(&path, text).unwrap();
    (directory, path)
}

fn talk() -> String {
    std::fs::read_to_string(package(TALK)).unwrap()
}

#[test]
fn a_transcript_is_compared_with_the_received_events() {
    let (code, stdout, stderr) = run(&[TALK]);
    assert_eq!((code, &*stdout), (0, &*format!("same {TALK}\n")), "{stderr}");
}

#[test]
fn the_example_in_the_documentation_is_true() {
    let docs = std::fs::read_to_string(package("docs/conversations.md")).unwrap();
    let (_, rest) = docs.split_once("```text\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let (_directory, path) = file(example);
    let (code, stdout, _) = run(&[path.to_str().unwrap()]);
    assert_eq!((code, stdout), (0, format!("same {}\n", path.display())));
}

#[test]
fn a_changed_answer_is_named_by_line_and_field() {
    let changed = talk().replacen(r#""content":"Hi""#, r#""content":"Ho""#, 1);
    let (_directory, path) = file(&changed);
    let path = path.to_str().unwrap();
    let (code, stdout, _) = run(&[path]);
    assert_eq!(code, 1);
    let difference =
        format!(r#"{path}: line 21: alice < message-sent: content is "Hi", expected "Ho""#);
    assert_eq!(stdout.lines().nth(1), Some(&*difference), "{stdout}");
    assert_eq!(stdout.matches(": line ").count(), 1, "{stdout}");
    assert!(stdout.contains(r#"   21       │-  alice < message-sent {"id":"<message-1>","conversationId":"c1","content":"Ho""#));
    assert!(stdout.contains(r#"         21 │+  alice < message-sent {"id":"<message-1>","conversationId":"c1","content":"Hi""#));
    assert!(!stdout.contains('\x1b'), "colours are for terminals");

    let (code, stdout, _) = run(&[path, "--format", "json"]);
    assert_eq!(code, 1);
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["outcome"], "different");
    assert_eq!(
        report["differences"],
        json!([{
            "line": 21, "client": "alice", "what": "message-sent", "difference": "field",
            "field": "content", "expected": "Ho", "actual": "Hi",
        }])
    );

    // Colours appear on a terminal by default; the test requests them.
    let mut coloured = replay_command(&[path]);
    let Output { stdout, .. } = coloured.env("CLICOLOR_FORCE", "1").output().unwrap();
    assert!(String::from_utf8(stdout).unwrap().contains("\x1b[31m-"));
}

#[test]
fn received_events_are_accepted_into_the_file() {
    let script: String = talk()
        .lines()
        .filter(|line| !line.starts_with(' '))
        .map(|line| format!("{line}\n"))
        .collect();
    let (_directory, path) = file(&script);
    let path = path.to_str().unwrap();
    let (code, stdout, _) = run(&[path]);
    assert_eq!((code, stdout), (0, talk()), "without answers it is played and printed");
    let (code, stdout, _) = run(&[path, "--accept"]);
    assert_eq!((code, stdout), (0, format!("accepted {path}\n")));
    assert_eq!(std::fs::read_to_string(path).unwrap(), talk());

    // An answer that is formatted differently, and means the same, stays.
    let spread = talk().replacen(
        r#"  alice < ack {"ok":true,...conversation-history}"#,
        "  alice < ack {\n    \"ok\": true, \"conversationId\": \"c1\",\n    \"messages\": [], \"hasMore\": false\n  }",
        1,
    );
    assert_ne!(spread, talk());
    let changed = spread.replacen(r#""content":"Hi""#, r#""content":"Ho""#, 1);
    std::fs::write(path, changed).unwrap();
    let (code, ..) = run(&[path, "--accept"]);
    assert_eq!((code, std::fs::read_to_string(path).unwrap()), (0, spread));
}

#[test]
fn the_output_names_the_step_that_stops_a_conversation() {
    let cases = [
        ("a connects\na awaits x within 50ms\n", "line 2: a received no x within 50ms"),
        ("a connects\na disconnects\na > x\n", "line 3: a is not connected"),
        ("a connects\na connects\n", "line 2: this client is connected already"),
        ("a connects\na > x \"<message-1>\"\n", "line 2: <message-1> was not seen yet"),
        ("a connects\na > x\na expects no error\n", "line 3: a received error"),
        ("a connects\nserver restarts\na expects no disconnect\n", "line 3: a received disconnect"),
        ("a connects\na > x\na expects nothing within 1ms\n", "line 3: a received error"),
        (
            "a connects\nb connects\na vanishes\nb > x\n",
            "line 4: somebody has vanished, and the server notices when it does: wait for it first (CLIENT awaits EVENT, or pause TIME)",
        ),
    ];
    for (script, reason) in cases {
        let (_directory, path) = file(script);
        let (code, stdout, _) = run(&["--accept", path.to_str().unwrap()]);
        assert_eq!(code, 1, "{stdout}");
        assert!(stdout.contains(&format!("{}: {reason}\n", path.display())), "{stdout}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), script, "nothing is accepted");
    }
}

#[test]
fn a_file_that_cannot_be_played_is_named() {
    let cases = [
        ("a connects\na > x {\"y\": }\n", ":2:13: expected JSON: expected value"),
        (
            "server has STORAGE=paper\na connects\n",
            ":1:20: STORAGE: \"paper\" is not sqlite or mongodb",
        ),
        (
            "server has STORAGE=mongodb\na connects\n",
            ": start a server of its own: STORAGE is mongodb, and MONGODB_URI names no server",
        ),
        (
            "server has ALLOWED_ORIGINS=x\na connects\n",
            ":1:28: ALLOWED_ORIGINS: \"x\" is not origins",
        ),
    ];
    for (script, error) in cases {
        let (_directory, path) = file(script);
        let (code, _, stderr) = run(&[path.to_str().unwrap()]);
        assert_eq!(code, 2, "{stderr}");
        assert!(stderr.contains(&format!("{}{error}", path.display())), "{stderr}");
    }
    let (code, _, stderr) = run(&["no-such-file.txt", TALK]);
    assert_eq!(code, 2);
    assert!(stderr.contains("no-such-file.txt: No such file"), "{stderr}");
    let (code, _, stderr) = run(&[TALK, "--url", "http://127.0.0.1:1"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("alice connects") && stderr.contains("Connection refused"), "{stderr}");
}

/// The plain server of `tests/js`, in a process of its own.
struct PlainServer {
    child: Child,
    url: String,
}

impl PlainServer {
    fn start() -> Self {
        let mut child = node().arg("plain-server.js").stdout(Stdio::piped()).spawn().unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Self { child, url: format!("http://127.0.0.1:{}", port.trim()) }
    }
}

impl Drop for PlainServer {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn assert_snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(package("snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

#[test]
#[ignore = "slow"]
fn another_server_without_acknowledgements_is_compared() {
    let server = PlainServer::start();
    let (code, stdout, stderr) = run(&[TALK, "--url", &server.url]);
    assert_eq!(code, 1, "{stderr}");
    assert_snapshot("plain-server-differences", &stdout);
}

#[test]
#[ignore = "slow"]
fn the_order_of_fields_is_a_difference_only_if_it_should_be() {
    let server = PlainServer::start();
    let talk = r#"alice connects
alice > authenticate {"id":"alice","name":"Alice"}
  alice < user-status-change {"userId":"alice","timestamp":"<milliseconds>","status":"online"}
  alice < online-users [{"id":"alice","name":"Alice","online":true}]
"#;
    let (_directory, path) = file(talk);
    let path = path.to_str().unwrap();
    let (code, stdout, _) = run(&[path, "--url", &server.url]);
    assert_eq!(code, 1);
    let order = "the fields of the payload are in the order userId, status, timestamp, expected userId, timestamp, status";
    assert!(stdout.contains(&format!("line 3: alice < user-status-change: {order}\n")), "{stdout}");
    let (code, stdout, _) = run(&[path, "--url", &server.url, "--sort-keys"]);
    assert_eq!((code, stdout), (0, format!("same {path}\n")));
}

#[test]
#[ignore = "slow"]
fn the_answers_of_another_server_are_compared_on_both_transports() {
    let server = PlainServer::start();
    let (code, stdout, stderr) = run(&["tests/replay/plain-server.txt", "--url", &server.url]);
    assert_eq!(code, 0, "{stdout}{stderr}");
    for transport in ["websocket", "polling"] {
        let arguments =
            ["tests/replay/plain-server.txt", "--transport", transport, "--url", &server.url];
        let (code, stdout, _) = run(&arguments);
        assert_eq!(code, 0, "{transport}: {stdout}");
    }
}

#[test]
#[ignore = "slow"]
fn a_step_that_ends_by_the_clock_waits_for_its_acknowledgement() {
    let server = PlainServer::start();
    let talk = "a connects\na ? ponder\n  a < ack \"late\"\na > roll 6 \"one\"\n  \
                a < rolled {\"sides\":6,\"label\":\"one\"} \"for certain\"\n";
    let (_directory, path) = file(talk);
    let path = path.to_str().unwrap();
    let (code, stdout, _) = run(&[path, "--url", &server.url]);
    assert_eq!((code, stdout), (0, format!("same {path}\n")));
}

/// Plays every conversation on each storage and transport, `REPLAYS` times or a few, many at once.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow"]
async fn every_replay_says_the_same() {
    let times = std::env::var("REPLAYS").map_or(2, |times| times.parse().unwrap());
    let polling = Stage { transport: TransportKind::Polling, ..Stage::own() };
    let mongodb = on_mongodb().await;
    // The numbers limit the replays at once: the pollers wait for the heartbeat of a client that
    // has vanished, and the replays on MongoDB share a server.
    let servers = [(Stage::own(), 10), (polling, 100), (mongodb, 10)]
        .map(|(server, at_once)| (server, Arc::new(Semaphore::new(at_once))));
    let mut replays = tokio::task::JoinSet::new();
    for path in conversations() {
        for (server, at_once) in (0..times).flat_map(|_| &servers) {
            let (path, server, at_once) = (path.clone(), server.clone(), at_once.clone());
            replays.spawn(async move {
                let _permit = at_once.acquire_owned().await.unwrap();
                let transcript = replay(&path, &server).await;
                let transcript =
                    transcript.unwrap_or_else(|error| panic!("{error:#}\n{server:?}")).to_string();
                (path, server.transport, transcript)
            });
        }
    }
    let mut first: BTreeMap<PathBuf, String> = BTreeMap::new();
    while let Some(replayed) = replays.join_next().await {
        let (path, transport, transcript) = replayed.unwrap();
        let expected = first.entry(path.clone()).or_insert_with(|| transcript.clone());
        assert_eq!(transcript, *expected, "{} over {transport:?}", name(&path));
    }
}

fn name(path: &Path) -> String {
    path.display().to_string()
}
