//! Passes a WebSocket's frames on, and shows the recording what they carry.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures_util::{
    Sink, SinkExt, Stream, StreamExt,
    future::{Either, select},
};
use tokio::sync::mpsc::unbounded_channel;
use tokio_tungstenite::tungstenite::{self, Message};

use super::link::Link;
use crate::tools::client::packet::engine;

/// Passes frames on in both directions, until one side ends.
/// Nothing is recorded without a link. The WebSocket is its session if `is_session`, or once the
/// client has said so.
pub(super) async fn join<C: Frames, S: Frames>(
    client: C,
    server: S,
    link: Option<Arc<Link>>,
    is_session: bool,
) {
    let is_session = AtomicBool::new(is_session);
    let link = link.as_deref();
    let (mut to_client, mut from_client) = client.split();
    let (mut to_server, mut from_server) = server.split();
    // Messages wait for their turn. Heartbeats do not, nor do answers that the server asked for.
    let (acts, mut to_act) = unbounded_channel::<Message>();
    let (passes, mut to_pass) = unbounded_channel::<Message>();
    let acted = passes.clone();
    let read = async move {
        while let Some(Ok(frame)) = from_client.next().await {
            let waits = link.is_some()
                && match &frame {
                    Message::Text(text) => text.starts_with('4') && !text.starts_with("43"),
                    Message::Binary(_) => true,
                    _ => false,
                };
            if frame.is_close() {
                return true;
            }
            let _ = if waits { acts.send(frame) } else { passes.send(frame) };
        }
        false
    };
    let act = async {
        while let Some(frame) = to_act.recv().await {
            if let (Some(link), Message::Text(text)) = (link, &frame) {
                link.client_sends(text).await;
            }
            let _ = acted.send(frame);
        }
        // What the client has still said is passed on.
        drop(acted);
    };
    let write = async {
        while let Some(frame) = to_pass.recv().await {
            if let Message::Text(text) = &frame
                && text.as_str() == engine::UPGRADE
            {
                is_session.store(true, Ordering::Relaxed);
                if let Some(link) = link {
                    link.upgraded();
                }
            }
            if to_server.send(frame).await.is_err() {
                // The server's own end tells.
                std::future::pending::<()>().await;
            }
        }
    };
    let out = async {
        let (is_goodbye, (), ()) = tokio::join!(read, act, write);
        // What it has brought about may still come, until it is the turn of this.
        match link.filter(|_| is_session.load(Ordering::Relaxed)) {
            Some(link) if is_goodbye => link.client_ends().await,
            Some(link) => link.vanished().await,
            None => {}
        }
    };
    let back = async {
        let mut client_is_there = true;
        while let Some(Ok(frame)) = from_server.next().await {
            if let (Some(link), Message::Text(text)) = (link, &frame) {
                link.server_sent(text);
            }
            if frame.is_close() {
                break;
            }
            client_is_there = client_is_there && to_client.send(frame).await.is_ok();
        }
    };
    let has_server_ended = matches!(select(Box::pin(out), Box::pin(back)).await, Either::Right(_));
    if let Some(link) = link
        && has_server_ended
        && is_session.into_inner()
    {
        link.server_ends();
    }
    let _ = to_server.close().await;
    let _ = to_client.close().await;
}

/// Both directions of a WebSocket.
pub(super) trait Frames:
    Stream<Item = tungstenite::Result<Message>> + Sink<Message, Error = tungstenite::Error> + Send
{
}

impl<T> Frames for T where
    T: Stream<Item = tungstenite::Result<Message>>
        + Sink<Message, Error = tungstenite::Error>
        + Send
{
}
