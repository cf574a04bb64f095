//! The servers that are measured, each in a process of its own.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};

pub enum Kind {
    Ours,
    /// A script of `benches/peers`.
    Node(PathBuf),
}

impl Kind {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ours => "radio-istic",
            Self::Node(_) => "node",
        }
    }
}

pub struct Server {
    child: Child,
    pub port: u16,
    _directory: tempfile::TempDir,
}

/// What a process has used so far.
pub struct Usage {
    pub cpu: Duration,
    /// Bytes.
    pub resident: u64,
}

impl Server {
    /// The servers that can be measured here. The last one is what the others are compared with.
    pub fn kinds() -> Vec<Kind> {
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers");
        let mut kinds = vec![Kind::Ours];
        if peers.join("node_modules").is_dir() {
            kinds.push(Kind::Node(peers.join("node-sqlite.js")));
        }
        kinds
    }

    pub async fn start(kind: &Kind) -> Result<Self> {
        // Beside the build, where the disk is one: a temporary directory may be memory.
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = match kind {
            Kind::Ours => Command::new(env!("CARGO_BIN_EXE_radio-istic")),
            Kind::Node(script) => {
                let mut command = Command::new("node");
                command.arg(script);
                command
            }
        };
        let child = command
            .current_dir(&directory)
            .env("PORT", port.to_string())
            .env("SQLITE_PATH", directory.path().join("chat.db"))
            .env("RUST_LOG", "error")
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        let server = Self { child, port, _directory: directory };
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(server)
    }

    /// Reads `/proc` (proc_pid_stat(5)).
    pub fn usage(&self) -> Result<Usage> {
        const TICKS_PER_SECOND: u64 = 100;
        const PAGE: u64 = 4_096;

        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name in parentheses may hold spaces. Behind it, the first field is the third one.
        let fields: Vec<&str> =
            stat.rsplit_once(')').context("odd stat")?.1.split_whitespace().collect();
        let field = |number: usize| fields[number - 3].parse::<u64>();
        let ticks = field(14)? + field(15)?;
        Ok(Usage {
            cpu: Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND),
            resident: field(24)? * PAGE,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
