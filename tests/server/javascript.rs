//! The official clients. They need Node, and `npm ci` in `tests/js`.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Output, Stdio},
};

use crate::{
    process::Process,
    support::{Server, package},
};

/// Node with the official clients.
pub fn node() -> Command {
    let modules = package("tests/js/node_modules");
    let has_node = Command::new("node").arg("--version").output().is_ok();
    assert!(has_node && modules.is_dir(), "Node or tests/js/node_modules is missing");
    let mut node = Command::new("node");
    node.env("NODE_PATH", modules).current_dir(package("tests/js"));
    node
}

async fn run(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

async fn talks(client: &str, transports: &str) {
    let mut node = node();
    let server = Server::start().await;
    node.args(["talk.js", &server.url, client, transports]);
    let output = run(node).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(node), ignore = "needs Node and `npm ci` in tests/js")]
async fn the_official_client_talks_over_websocket() {
    talks("socket.io-client", "websocket").await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(node), ignore = "needs Node and `npm ci` in tests/js")]
async fn the_official_client_talks_over_polling() {
    talks("socket.io-client", "polling").await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(node), ignore = "needs Node and `npm ci` in tests/js")]
async fn the_official_client_talks_while_it_upgrades() {
    talks("socket.io-client", "polling,websocket").await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(node), ignore = "needs Node and `npm ci` in tests/js")]
async fn the_official_v2_client_talks_over_all_transports() {
    for transports in ["websocket", "polling", "polling,websocket"] {
        talks("socket.io-client-v2", transports).await;
    }
}

#[test]
#[cfg_attr(not(node), ignore = "needs Node and `npm ci` in tests/js")]
fn the_official_client_comes_back_after_a_restart() {
    for transport in ["websocket", "polling"] {
        let mut node = node();
        let directory = tempfile::tempdir().unwrap();
        let server = Process::start(directory.path());
        let url = server.url.clone();
        let mut client =
            node.args(["stay.js", &url, transport]).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(client.stdout.take().unwrap()).lines();
        let mut says = || said.next().unwrap().unwrap();
        assert_eq!(says(), "connected");
        server.stop();
        assert!(says().starts_with("disconnected: transport"));
        let server = Process::start_at(directory.path(), url.rsplit(':').next().unwrap());
        assert_eq!(says(), "connected");
        client.kill().unwrap();
        client.wait().unwrap();
        server.kill();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(node), ignore = "needs Node and `npm ci` in tests/js")]
async fn the_readmes_client_works_when_pasted() {
    let mut node = node();
    let readme = std::fs::read_to_string(package("README.md")).unwrap();
    let (_, rest) = readme.split_once("```javascript\n").expect("the README has a client");
    let (client, _) = rest.split_once("```").unwrap();
    assert_eq!(client.lines().filter(|line| !line.is_empty()).count(), 10, "a client in ten lines");

    let server = Server::start().await;
    let client = client.replace("http://localhost:3001", &server.url);
    node.args(["-e", &format!("{client}\nsetTimeout(() => process.exit(), 1000);")]);
    let output = String::from_utf8(run(node).await.stdout).unwrap();
    let mut lines = output.lines();
    assert_eq!(lines.next(), Some("Alice: Hello!"));
    assert!(lines.next().is_some_and(|line| line.starts_with("stored as ")), "{output}");
}
