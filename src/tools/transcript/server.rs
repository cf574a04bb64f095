//! The server that a conversation is played against: one of its own, or one that runs already.

use std::{path::Path, str::FromStr, time::Duration};

use anyhow::{Context, Result, anyhow, ensure};
use mongodb::options::ClientOptions;
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::script::ServerSetting;
use crate::{
    config::{Config, Settings},
    storage::Place,
    tools::client::TransportKind,
};

/// The pause before another attempt to start a server.
const RETRY: Duration = Duration::from_millis(50);

/// The server for conversations, and the rules of a replay.
#[derive(Clone, Debug)]
pub struct Stage {
    pub target: Target,
    /// The transport of clients whose options name none.
    pub transport: TransportKind,
    /// The time limit of one wait of a step.
    pub timeout: Duration,
    /// On a server that does not acknowledge as the contract says, a step is over when nothing has
    /// arrived for this long.
    pub quiet: Duration,
    /// The sign for the end of a step. `None`: a server of its own is asked, and so are other
    /// servers that were seen to answer as the contract says.
    pub settle: Option<Settle>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settle {
    /// The answer to an event that changes nothing, as the contract says.
    Ask,
    /// A quiet time.
    Quiet,
}

impl Settle {
    pub const NAMES: [&str; 2] = ["ask", "quiet"];
}

impl FromStr for Settle {
    type Err = &'static str;

    fn from_str(name: &str) -> std::result::Result<Self, Self::Err> {
        match name {
            "ask" => Ok(Self::Ask),
            "quiet" => Ok(Self::Quiet),
            _ => Err("expected ask or quiet"),
        }
    }
}

#[derive(Clone, Debug)]
pub enum Target {
    /// A server of its own for each conversation, in this process, without any data.
    Own {
        /// The storage of conversations that do not choose one.
        storage: StorageKind,
        /// The server on which conversations with MongoDB have a database of their own.
        mongodb_uri: Option<String>,
    },
    /// The server at this address. It should hold no data that the conversations touch.
    At(String),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StorageKind {
    #[default]
    Sqlite,
    Mongodb,
}

impl StorageKind {
    pub const NAMES: [&str; 2] = ["sqlite", "mongodb"];
}

impl FromStr for StorageKind {
    type Err = &'static str;

    fn from_str(name: &str) -> std::result::Result<Self, Self::Err> {
        match name {
            "sqlite" => Ok(Self::Sqlite),
            "mongodb" => Ok(Self::Mongodb),
            _ => Err("expected sqlite or mongodb"),
        }
    }
}

impl Stage {
    /// A server of its own for each conversation, on a temporary SQLite file.
    pub fn own() -> Self {
        Self::new(Target::Own { storage: StorageKind::Sqlite, mongodb_uri: None })
    }

    /// The server at `url`, such as `http://localhost:3001`.
    pub fn at(url: &str) -> Self {
        Self::new(Target::At(url.into()))
    }

    fn new(target: Target) -> Self {
        Self {
            target,
            transport: TransportKind::default(),
            timeout: Duration::from_secs(5),
            quiet: Duration::from_millis(250),
            settle: None,
        }
    }
}

impl ServerSetting {
    /// Whether a server can be started with it. The error gives the reason why not.
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        let check = || match self.storage()? {
            Some(_) => Ok(()),
            None => {
                let mut settings = Settings::default();
                self.put_into(&mut settings)?;
                settings.check()
            }
        };
        check().map_err(|error: anyhow::Error| format!("{error:#}"))
    }

    /// The storage, if the setting chooses one.
    fn storage(&self) -> Result<Option<StorageKind>> {
        if self.name != "STORAGE" {
            return Ok(None);
        }
        let kind = self.value.parse();
        kind.map(Some).map_err(|_| anyhow!("STORAGE: {:?} is not sqlite or mongodb", self.value))
    }

    fn put_into(&self, settings: &mut Settings) -> Result<()> {
        let setting = settings.get_mut(&self.name);
        *setting.with_context(|| format!("{} is no setting", self.name))? =
            Some(self.value.clone());
        Ok(())
    }
}

/// A server for one conversation.
pub(super) enum Running {
    Own(Box<Own>),
    At(String),
}

impl Running {
    pub async fn start<'a>(
        target: &Target,
        settings: impl Iterator<Item = &'a ServerSetting>,
    ) -> Result<Self> {
        match target {
            Target::At(url) => Ok(Self::At(url.clone())),
            Target::Own { storage, mongodb_uri } => {
                let own = Own::start(*storage, mongodb_uri.as_deref(), settings).await;
                Ok(Self::Own(Box::new(own.context("start a server of its own")?)))
            }
        }
    }

    pub fn url(&self) -> &str {
        match self {
            Self::Own(own) => &own.url,
            Self::At(url) => url,
        }
    }

    /// Stops the server and removes its data, if it is one's own.
    pub async fn end(self) -> Result<()> {
        match self {
            Self::Own(own) => own.end().await,
            Self::At(_) => Ok(()),
        }
    }
}

/// A server in this process.
pub(super) struct Own {
    config: Config,
    /// The address of the run that serves now or served last.
    url: String,
    process: Option<Process>,
    /// Holds the SQLite file or the outbox.
    _directory: TempDir,
}

/// A run of the server.
struct Process {
    stop: oneshot::Sender<()>,
    served: JoinHandle<Result<()>>,
}

impl Own {
    async fn start<'a>(
        mut storage: StorageKind,
        mongodb_uri: Option<&str>,
        chosen: impl Iterator<Item = &'a ServerSetting>,
    ) -> Result<Self> {
        let directory = tempfile::tempdir().context("make a directory for its file")?;
        let sqlite_path = Some(path_text(&directory.path().join("chat.db"))?);
        // The result of a file must not depend on the speed of the replay.
        let rate_limit = Some("off".into());
        let mut settings = Settings { sqlite_path, rate_limit, ..Settings::default() };
        for setting in chosen {
            match setting.storage()? {
                Some(kind) => storage = kind,
                None => setting.put_into(&mut settings)?,
            }
        }
        if storage == StorageKind::Mongodb {
            ensure!(mongodb_uri.is_some(), "STORAGE is mongodb, and MONGODB_URI names no server");
            settings.mongodb_uri = mongodb_uri.map(Into::into);
        }
        let mut config = Config::new(&settings).await?;
        if let Place::Mongo { options, .. } = &mut config.storage {
            let name = format!("radio-istic-replay-{}", bson::oid::ObjectId::new());
            options.default_database = Some(name);
        }
        let mut own = Self { config, url: String::new(), process: None, _directory: directory };
        own.run().await?;
        Ok(own)
    }

    /// Serves, and returns when the server answers.
    async fn run(&mut self) -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        self.url = format!("http://{}", listener.local_addr()?);
        let (stop, stopped) = oneshot::channel();
        let mut served = tokio::spawn(crate::serve(listener, self.config.clone(), async {
            let _ = stopped.await;
        }));
        let http = reqwest::Client::builder().no_proxy().build()?;
        tokio::select! {
            ended = &mut served => ended??,
            answer = http.get(format!("{}/health", self.url)).send() => drop(answer?),
        }
        self.process = Some(Process { stop, served });
        Ok(())
    }

    async fn stop(&mut self) -> Result<()> {
        match self.process.take() {
            Some(Process { stop, served }) => {
                drop(stop);
                served.await?
            }
            None => Ok(()),
        }
    }

    /// Stops the server in order, and starts it again on the same data, at another address.
    pub async fn restart(&mut self, patience: Duration) -> Result<()> {
        self.stop().await?;
        let deadline = Instant::now() + patience;
        // Tasks that did not end in time would end with the process, but here the process goes on:
        // they may hold the file a little longer.
        while let Err(error) = self.run().await {
            if Instant::now() >= deadline {
                return Err(error);
            }
            sleep(RETRY).await;
        }
        Ok(())
    }

    async fn end(mut self) -> Result<()> {
        self.stop().await?;
        match self.config.storage {
            Place::Mongo { options, .. } => drop_database(*options).await,
            Place::Sqlite(_) => Ok(()),
        }
    }
}

async fn drop_database(options: ClientOptions) -> Result<()> {
    let database = options.default_database.clone().context("the database has no name")?;
    let client = mongodb::Client::with_options(options)?;
    client.database(&database).drop().await.with_context(|| format!("drop database {database}"))
}

fn path_text(path: &Path) -> Result<String> {
    path.to_str().map(Into::into).with_context(|| format!("{} is no UTF-8", path.display()))
}
