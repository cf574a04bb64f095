//! The scenarios that are played against a server, and their results.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use indexmap::IndexMap;
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    players::{Tally, Window, chat, join, listen, sleep, write},
    server::{Kind, Server, Usage},
    socket::Socket,
};

const WARM_UP: Duration = Duration::from_secs(1);

/// The results of one run, by name and unit.
pub type Figures = IndexMap<&'static str, f64>;

#[derive(Clone, Copy)]
pub enum Scenario {
    /// Users who write to each other in pairs.
    Pairs { users: usize, in_flight: usize },
    /// An open room in which one socket writes.
    Room { sockets: usize, sleeper: bool },
    /// Users who open a conversation of 100 messages.
    History { users: usize },
    /// Sockets that connect and send nothing.
    Idle { sockets: usize },
    /// Users who authenticate at once; each receives the status of all others.
    Logins { users: usize },
    /// Rooms of 50 in which one in ten writes and types, and the others read.
    Day { users: usize },
}

pub const CONFIRMED: &str = "confirmed/s";
pub const DELIVERED: &str = "delivered/s";
pub const CPU: &str = "µs CPU each";

impl Scenario {
    pub async fn run(self, kind: Kind, measured: Duration) -> Result<Figures> {
        let server = Server::start(kind).await?;
        match self {
            Self::Idle { sockets } => idle(&server, sockets).await,
            Self::Logins { users } => logins(&server, users).await,
            _ => self.play(&server, measured).await,
        }
    }

    async fn play(self, server: &Server, measured: Duration) -> Result<Figures> {
        let mut sockets = Vec::new();
        for user in 0..self.users() {
            sockets.push(Socket::user(server, user).await?);
        }
        if let Self::History { .. } = self {
            let text = |number| json!({ "conversationId": "c", "message": format!("0 {number}") });
            for number in 0..100 {
                sockets[0].ask("send-message", &text(number)).await?;
            }
        }
        if let Self::Room { .. } | Self::Day { .. } = self {
            for (user, socket) in sockets.iter_mut().enumerate() {
                let room = self.room_of(user);
                if user % 50 == 0 {
                    // The first message, without a recipient, makes the conversation an open room.
                    let first = json!({ "conversationId": room, "message": "0000000000000000" });
                    socket.ask("send-message", &first).await?;
                }
                socket.ask("join-conversation", &json!({ "conversationId": room })).await?;
            }
        }
        let start = Instant::now() + WARM_UP;
        let window = Window { start, end: start + measured };
        let mut playing = JoinSet::new();
        for (user, socket) in sockets.into_iter().enumerate() {
            let room = self.room_of(user);
            match self {
                Self::Pairs { in_flight, .. } => {
                    let other = Some(format!("user-{}", user ^ 1));
                    playing.spawn(write(socket, room, other, in_flight, window))
                }
                Self::Room { .. } if user == 0 => {
                    playing.spawn(write(socket, room, None, 8, window))
                }
                Self::Room { sleeper: true, .. } if user == 1 => {
                    playing.spawn(sleep(socket, window))
                }
                Self::Room { .. } => playing.spawn(listen(socket, room, None, window)),
                Self::History { .. } => playing.spawn(join(socket, "c".into(), window)),
                Self::Day { .. } if user % 10 == 0 => {
                    playing.spawn(chat(socket, room, Duration::from_millis(500), window))
                }
                _ => {
                    let reads = Duration::from_secs(1);
                    playing.spawn(listen(socket, room, Some(reads), window))
                }
            };
        }
        tokio::time::sleep_until(window.start.into()).await;
        let before = server.usage()?;
        tokio::time::sleep_until(window.end.into()).await;
        let after = server.usage()?;
        let mut tallies = Vec::new();
        while let Some(tally) = playing.join_next().await {
            tallies.push(tally??);
        }
        if server.kind == Kind::Ours {
            check_history(server, &tallies).await?;
        }
        self.figures(&before, &after, measured, tallies)
    }

    fn users(self) -> usize {
        match self {
            Self::Pairs { users, .. }
            | Self::History { users }
            | Self::Logins { users }
            | Self::Day { users } => users,
            Self::Room { sockets, .. } | Self::Idle { sockets } => sockets,
        }
    }

    fn room_of(self, user: usize) -> String {
        match self {
            Self::Pairs { .. } => format!("pair-{}", user / 2),
            Self::Day { .. } => format!("room-{}", user / 50),
            _ => "room".into(),
        }
    }

    fn figures(
        self,
        before: &Usage,
        after: &Usage,
        measured: Duration,
        tallies: Vec<Tally>,
    ) -> Result<Figures> {
        let mut confirmations = Vec::new();
        let mut deliveries = Vec::new();
        for tally in tallies {
            confirmations.extend(tally.confirmations);
            deliveries.extend(tally.deliveries);
        }
        let (confirmed, delivered) = (confirmations.len() as f64, deliveries.len() as f64);
        // The cost is per delivery in a room, and per confirmation elsewhere.
        let each = if let Self::Room { .. } = self { delivered } else { confirmed };
        let cpu = (after.cpu - before.cpu).as_secs_f64() * 1e6;
        let mut figures = Figures::new();
        figures.insert(CONFIRMED, confirmed / measured.as_secs_f64());
        figures.insert(DELIVERED, delivered / measured.as_secs_f64());
        figures.insert(CPU, cpu / each);
        let names = [
            ["confirmed p50 ms", "p99", "p99.9"],
            ["delivered p50 ms", "delivered p99", "delivered p99.9"],
        ];
        for (mut latencies, names) in [confirmations, deliveries].into_iter().zip(names) {
            latencies.sort_unstable();
            for (name, share) in names.into_iter().zip([0.5, 0.99, 0.999]) {
                let index = (latencies.len() as f64 * share) as usize;
                if let Some(latency) = latencies.get(index) {
                    figures.insert(name, latency.as_secs_f64() * 1e3);
                }
            }
        }
        figures.insert("MiB", after.resident as f64 / f64::from(1 << 20));
        Ok(figures)
    }
}

/// Every confirmed message is in the history, once and in order.
async fn check_history(server: &Server, tallies: &[Tally]) -> Result<()> {
    let mut confirmed: HashMap<&str, HashSet<&[u8; 24]>> = HashMap::new();
    for tally in tallies.iter().filter(|tally| !tally.confirmed.is_empty()) {
        confirmed.entry(&tally.conversation).or_default().extend(&tally.confirmed);
    }
    for (conversation, mut missing) in confirmed {
        let member = conversation
            .strip_prefix("pair-")
            .map_or(Ok(0), |pair| Ok::<_, std::num::ParseIntError>(pair.parse::<usize>()? * 2))?;
        let mut reader = Socket::user(server, member).await?;
        let mut after: Option<String> = None;
        let mut before: Option<String> = None;
        loop {
            let request = json!({ "conversationId": conversation, "before": before, "userId": format!("user-{member}") });
            let page = reader.ask("join-conversation", &request).await?;
            let messages = page["messages"].as_array().context("no history")?;
            for message in messages.iter().rev() {
                let id = message["id"].as_str().context("no id")?;
                ensure!(after.as_deref().is_none_or(|after| id < after), "history is out of order");
                after = Some(id.into());
                let key: &[u8; 24] = id.as_bytes().try_into()?;
                missing.remove(key);
            }
            before = after.clone();
            if page["hasMore"] != true {
                break;
            }
        }
        ensure!(missing.is_empty(), "{} confirmed messages are missing", missing.len());
    }
    Ok(())
}

/// The cost of a connected socket that sends nothing.
async fn idle(server: &Server, sockets: usize) -> Result<Figures> {
    let before = server.usage()?;
    let begun = Instant::now();
    let mut connected = Vec::new();
    for _ in 0..sockets {
        connected.push(Socket::connect(server).await?);
    }
    let took = begun.elapsed().as_secs_f64();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = server.usage()?;
    // The server still answers.
    let asked = Instant::now();
    connected[0].authenticate(0).await?;
    let count = sockets as f64;
    Ok(Figures::from([
        ("connections/s", count / took),
        (CPU, (after.cpu - before.cpu).as_secs_f64() * 1e6 / count),
        ("KiB each", after.resident.saturating_sub(before.resident) as f64 / 1024.0 / count),
        ("answers in ms", asked.elapsed().as_secs_f64() * 1e3),
        ("started in ms", server.started_in.as_secs_f64() * 1e3),
    ]))
}

/// All users authenticate at once, and each receives the status of all.
async fn logins(server: &Server, users: usize) -> Result<Figures> {
    let mut sockets = Vec::new();
    for _ in 0..users {
        sockets.push(Socket::connect(server).await?);
    }
    let before = server.usage()?;
    let begun = Instant::now();
    let mut coming = JoinSet::new();
    for (user, mut socket) in sockets.into_iter().enumerate() {
        coming.spawn(async move {
            socket.authenticate(user).await?;
            // Reads until no status has arrived for a second.
            let mut heard = 0;
            let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
            while heard == 0 || tokio::time::Instant::now() < deadline {
                let quiet = tokio::time::timeout(
                    Duration::from_secs(1),
                    socket.receive(|packet| {
                        heard += usize::from(packet.starts_with(b"42[\"user-status-change\""));
                    }),
                );
                match quiet.await {
                    Ok(received) => received?,
                    Err(_) => break,
                }
            }
            Ok::<_, anyhow::Error>((heard, Instant::now() - Duration::from_secs(1)))
        });
    }
    let (mut heard, mut last) = (0, begun);
    while let Some(done) = coming.join_next().await {
        let (count, at) = done??;
        heard += count;
        last = last.max(at);
    }
    let after = server.usage()?;
    let took = (last - begun).as_secs_f64();
    Ok(Figures::from([
        ("logins/s", users as f64 / took),
        ("s in all", took),
        (CPU, (after.cpu - before.cpu).as_secs_f64() * 1e6 / users as f64),
        ("deliveries/s", heard as f64 / took),
        ("MiB", after.resident as f64 / f64::from(1 << 20)),
    ]))
}
