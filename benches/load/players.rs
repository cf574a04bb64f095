//! The clients of a scenario, and the figures that they count.

use std::{
    collections::VecDeque,
    sync::LazyLock,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::socket::{Frame, Socket};

/// The origin of the times in messages.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

const TEXT: &str = "A message of a usual length, as people write them when they chat.";

/// The length of the part of a packet that is searched for the fields of its message.
const HEAD: usize = 400;

/// The time span in which events count.
#[derive(Clone, Copy)]
pub struct Window {
    pub start: Instant,
    pub end: Instant,
}

impl Window {
    fn holds(self, now: Instant) -> bool {
        self.start <= now && now < self.end
    }
}

/// The figures that one client has counted.
#[derive(Default)]
pub struct Tally {
    pub conversation: String,
    /// The ids of all messages that were confirmed, also outside the window.
    pub confirmed: Vec<[u8; 24]>,
    pub confirmations: Vec<Duration>,
    pub deliveries: Vec<Duration>,
    last_received: [u8; 24],
}

impl Tally {
    /// Notes a packet. Returns whether it confirms a message.
    fn note(&mut self, packet: &[u8], window: Window) -> Result<bool> {
        if packet.starts_with(b"42[\"message-sent\"") {
            self.confirmed.push(id(packet).context("a message without an id")?);
            return Ok(true);
        }
        if packet.starts_with(b"42[\"receive-message\"") {
            let id = id(packet).context("a message without an id")?;
            // The messages of one conversation arrive in the order of their ids.
            ensure!(crate::is_unordered() || self.last_received < id, "out of order, or twice");
            self.last_received = id;
            let now = Instant::now();
            if window.holds(now) {
                let sent = sent_at(packet).context("a message without its time")?;
                self.deliveries.push(now.saturating_duration_since(sent));
            }
        }
        Ok(false)
    }
}

fn find(packet: &[u8], name: &[u8]) -> Option<usize> {
    let head = &packet[..packet.len().min(HEAD)];
    head.windows(name.len()).position(|part| part == name).map(|at| at + name.len())
}

fn id(packet: &[u8]) -> Option<[u8; 24]> {
    let at = find(packet, b"\"id\":\"")?;
    packet.get(at..at + 24)?.try_into().ok()
}

/// The time at which the message was sent, from its text.
fn sent_at(packet: &[u8]) -> Option<Instant> {
    let at = find(packet, b"\"content\":\"")?;
    let digits = std::str::from_utf8(packet.get(at..at + 16)?).ok()?;
    Some(*EPOCH + Duration::from_micros(digits.parse().ok()?))
}

/// A message with the time of sending in its text.
fn message(conversation: &str, recipient: Option<&str>) -> Frame {
    let now = EPOCH.elapsed().as_micros();
    let text = format!("{now:016} {TEXT}");
    let payload =
        json!({ "conversationId": conversation, "recipientId": recipient, "message": text });
    Frame::event("send-message", &payload)
}

/// Keeps messages in flight until the window ends, and waits until all are confirmed.
pub async fn write(
    mut socket: Socket,
    conversation: String,
    recipient: Option<String>,
    in_flight: usize,
    window: Window,
) -> Result<Tally> {
    let mut tally = Tally { conversation: conversation.clone(), ..Tally::default() };
    let mut sent = VecDeque::new();
    let send = |socket: &mut Socket, sent: &mut VecDeque<Instant>| {
        sent.push_back(Instant::now());
        socket.queue(&message(&conversation, recipient.as_deref()));
    };
    for _ in 0..in_flight {
        send(&mut socket, &mut sent);
    }
    socket.flush().await?;
    while !sent.is_empty() {
        let mut confirmed = 0;
        let mut noted = Ok(());
        let receive = socket.receive(|packet| match tally.note(packet, window) {
            Ok(is_confirmation) => confirmed += usize::from(is_confirmation),
            Err(error) => noted = Err(error),
        });
        // A client without further answers has lost messages; the check of the history finds them.
        if tokio::time::timeout_at((window.end + Duration::from_secs(10)).into(), receive)
            .await
            .context("not confirmed in time")?
            .is_err()
        {
            break;
        }
        noted?;
        let now = Instant::now();
        for _ in 0..confirmed {
            let sent_at = sent.pop_front().context("confirmed more than was sent")?;
            if window.holds(now) {
                tally.confirmations.push(now - sent_at);
            }
            if now < window.end {
                send(&mut socket, &mut sent);
            }
        }
        socket.flush().await?;
    }
    Ok(tally)
}

/// Writes a message at each interval, after `typing-start`, as a person does in a chat.
pub async fn chat(
    mut socket: Socket,
    conversation: String,
    every: Duration,
    window: Window,
) -> Result<Tally> {
    let mut tally = Tally { conversation: conversation.clone(), ..Tally::default() };
    let typing = Frame::event("typing-start", &json!({ "conversationId": conversation }));
    let mut sent: VecDeque<Instant> = VecDeque::new();
    let mut next = tokio::time::interval(every);
    while Instant::now() < window.end {
        let mut confirmed = 0;
        let mut noted = Ok(());
        tokio::select! {
            _ = next.tick() => {
                socket.queue(&typing);
                socket.queue(&message(&conversation, None));
                sent.push_back(Instant::now());
            }
            received = socket.receive(|packet| match tally.note(packet, window) {
                Ok(is_confirmation) => confirmed += usize::from(is_confirmation),
                Err(error) => noted = Err(error),
            }) => received?,
            () = tokio::time::sleep_until(window.end.into()) => {}
        }
        noted?;
        for _ in 0..confirmed {
            let sent_at = sent.pop_front().context("confirmed more than was sent")?;
            if window.holds(Instant::now()) {
                tally.confirmations.push(sent_at.elapsed());
            }
        }
        socket.flush().await?;
    }
    Ok(tally)
}

/// Receives until the window ends. If `reads`, marks the last message as read at this interval.
pub async fn listen(
    mut socket: Socket,
    conversation: String,
    reads: Option<Duration>,
    window: Window,
) -> Result<Tally> {
    let mut tally = Tally { conversation: conversation.clone(), ..Tally::default() };
    let mut read_next = Instant::now() + reads.unwrap_or(Duration::from_secs(3_600));
    while Instant::now() < window.end {
        let mut noted = Ok(false);
        tokio::select! {
            received = socket.receive(|packet| {
                if noted.is_ok() {
                    noted = tally.note(packet, window);
                }
            }) => received?,
            () = tokio::time::sleep_until(window.end.into()) => {}
        }
        noted?;
        if let Some(every) = reads
            && Instant::now() >= read_next
            && tally.last_received != [0; 24]
        {
            read_next = Instant::now() + every;
            let id = String::from_utf8_lossy(&tally.last_received).into_owned();
            let read = json!({ "conversationId": conversation, "messageIds": [id] });
            socket.queue(&Frame::event("mark-as-read", &read));
            socket.flush().await?;
        }
    }
    Ok(tally)
}

/// Joins repeatedly. Each answer counts as a confirmation.
pub async fn join(mut socket: Socket, conversation: String, window: Window) -> Result<Tally> {
    let mut tally = Tally { conversation: conversation.clone(), ..Tally::default() };
    let request = json!({ "conversationId": conversation });
    while Instant::now() < window.end {
        let asked = Instant::now();
        let asking = socket.ask_packet("join-conversation", &request);
        let Ok(answer) = tokio::time::timeout_at(window.end.into(), asking).await else { break };
        // Parsing the answer would take longer than the server takes; its length is enough of a
        // check.
        let bytes = answer?.len();
        ensure!(bytes > 15_000, "{bytes} bytes are not 100 messages");
        if window.holds(Instant::now()) {
            tally.confirmations.push(asked.elapsed());
        }
    }
    Ok(tally)
}

/// Reads nothing that the server sends.
pub async fn sleep(socket: Socket, window: Window) -> Result<Tally> {
    tokio::time::sleep_until(window.end.into()).await;
    drop(socket);
    Ok(Tally::default())
}
