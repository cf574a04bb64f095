//! A server for a test, and helpers to query it.

use std::{future::Future, path::Path, time::Duration};

use radio_istic::{
    client::Client,
    config::{Config, Settings},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

/// The longest a test waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A server in this process, on a port and a file of its own.
pub struct Server {
    pub url: String,
    pub directory: TempDir,
    stop: oneshot::Sender<()>,
    served: JoinHandle<anyhow::Result<()>>,
}

impl Server {
    pub async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    /// Starts on the file in `directory`, which an earlier server may have left there.
    pub async fn start_in(directory: TempDir) -> Self {
        Self::start_with(directory, Settings::default()).await
    }

    pub async fn start_with(directory: TempDir, settings: Settings) -> Self {
        let path = directory.path().join("chat.db").to_str().unwrap().to_owned();
        // Most tests send faster than people.
        let rate_limit = settings.rate_limit.or(Some("off".into()));
        let settings = Settings { sqlite_path: Some(path), rate_limit, ..settings };
        let config = Config::new(&settings).await.unwrap();
        Self::start_configured(directory, config).await
    }

    pub async fn start_configured(directory: TempDir, config: Config) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(radio_istic::serve(listener, config, async {
            stopped.await.ok();
        }));
        Self { url, directory, stop, served }
    }

    pub async fn client(&self) -> Client {
        within(Client::connect(&self.url)).await.unwrap()
    }

    /// A client that is authenticated as `user`, and has received all events of that.
    pub async fn user(&self, user: &str) -> Client {
        let mut client = self.client().await;
        let answer = within(client.ask("authenticate", json!({ "id": user }))).await.unwrap();
        assert_eq!(answer["ok"], true, "{answer}");
        client
    }

    /// The whole history of a conversation.
    pub async fn history(&self, conversation: &str, user: &str) -> Vec<Value> {
        history(&self.url, conversation, user).await
    }

    /// Stops the server in order, and returns the directory with its file.
    pub async fn stop(self) -> TempDir {
        self.stop.send(()).unwrap();
        within(self.served).await.unwrap().unwrap();
        self.directory
    }

    /// `/health`, as soon as it is as `wanted`.
    pub async fn health(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        within(async {
            loop {
                let response = reqwest::get(format!("{}/health", self.url)).await.unwrap();
                let health: Value = response.json().await.unwrap();
                if wanted(&health) {
                    return health;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }
}

/// The whole history of a conversation, read page by page from its newest message.
pub async fn history(url: &str, conversation: &str, user: &str) -> Vec<Value> {
    let mut client = within(Client::connect(url)).await.unwrap();
    let mut messages: Vec<Value> = Vec::new();
    loop {
        let before = messages.first().map(|message| &message["id"]);
        let request = json!({ "conversationId": conversation, "userId": user, "before": before });
        let mut answer = within(client.ask("join-conversation", request)).await.unwrap();
        assert_eq!(answer["ok"], true, "{answer}");
        let Value::Array(page) = answer["messages"].take() else { panic!("{answer}") };
        messages.splice(0..0, page);
        if answer["hasMore"] == false {
            return messages;
        }
    }
}

/// Limits a wait.
pub async fn within<T>(waiting: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, waiting).await.expect("nothing came in time")
}

/// A path of this package.
pub fn package(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
