//! Passes a WebSocket's frames on, and shows the recording their contents.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures_util::{
    Sink, SinkExt, Stream, StreamExt,
    future::{Either, select},
    stream::{SplitSink, SplitStream},
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_tungstenite::tungstenite::{self, Message};

use super::relay::Relay;
use crate::tools::client::packet::engine;

/// Passes frames on in both directions, until one side ends. Nothing is recorded without a relay.
/// The WebSocket is its session if `is_session`, or once the client has said so.
pub(super) async fn join<C: Frames, S: Frames>(
    client: C,
    server: S,
    relay: Option<Arc<Relay>>,
    is_session: bool,
) {
    let recorded = Tap { relay, is_session: AtomicBool::new(is_session) };
    let (mut to_client, from_client) = client.split();
    let (mut to_server, from_server) = server.split();
    let out = recorded.pass_to_server(from_client, &mut to_server);
    let back = recorded.pass_to_client(from_server, &mut to_client);
    let has_server_ended = matches!(select(Box::pin(out), Box::pin(back)).await, Either::Right(_));
    if let Some(relay) = recorded.session()
        && has_server_ended
    {
        relay.server_ends();
    }
    let _ = to_server.close().await;
    let _ = to_client.close().await;
}

/// The session that is recorded, if any is.
struct Tap {
    relay: Option<Arc<Relay>>,
    is_session: AtomicBool,
}

impl Tap {
    /// The relay, once the WebSocket is its session.
    fn session(&self) -> Option<&Arc<Relay>> {
        self.relay.as_ref().filter(|_| self.is_session.load(Ordering::Relaxed))
    }

    async fn pass_to_server<C: Frames, S: Frames>(
        &self,
        from_client: SplitStream<C>,
        to_server: &mut SplitSink<S, Message>,
    ) {
        // Messages wait for their turn. Heartbeats do not, nor do answers that the server
        // requested.
        let (acts, to_act) = unbounded_channel::<Message>();
        let (passes, to_pass) = unbounded_channel::<Message>();
        let read = self.read(from_client, acts, passes.clone());
        let (is_goodbye, (), ()) =
            tokio::join!(read, self.act(to_act, passes), self.write(to_pass, to_server));
        // The answers to the last messages may still arrive, until the turn of this step.
        match self.session() {
            Some(relay) if is_goodbye => relay.client_ends().await,
            Some(relay) => relay.vanished().await,
            None => {}
        }
    }

    /// Reads the client's frames. Returns whether the client said goodbye.
    async fn read<C: Frames>(
        &self,
        mut from_client: SplitStream<C>,
        acts: UnboundedSender<Message>,
        passes: UnboundedSender<Message>,
    ) -> bool {
        while let Some(Ok(frame)) = from_client.next().await {
            let is_message = match &frame {
                Message::Text(text) => text.starts_with('4') && !text.starts_with("43"),
                Message::Binary(_) => true,
                Message::Close(_) => return true,
                _ => false,
            };
            let waits = is_message && self.relay.is_some();
            let _ = if waits { acts.send(frame) } else { passes.send(frame) };
        }
        false
    }

    /// Lets messages pass one after the other.
    async fn act(&self, mut to_act: UnboundedReceiver<Message>, acted: UnboundedSender<Message>) {
        while let Some(frame) = to_act.recv().await {
            if let (Some(relay), Message::Text(text)) = (&self.relay, &frame) {
                relay.client_sends(text).await;
            }
            let _ = acted.send(frame);
        }
    }

    async fn write<S: Frames>(
        &self,
        mut to_pass: UnboundedReceiver<Message>,
        to_server: &mut SplitSink<S, Message>,
    ) {
        while let Some(frame) = to_pass.recv().await {
            if let Message::Text(text) = &frame
                && text.as_str() == engine::UPGRADE
            {
                self.is_session.store(true, Ordering::Relaxed);
                if let Some(relay) = &self.relay {
                    relay.upgraded();
                }
            }
            if to_server.send(frame).await.is_err() {
                // The end of the server's stream ends the session.
                std::future::pending::<()>().await;
            }
        }
    }

    async fn pass_to_client<C: Frames, S: Frames>(
        &self,
        mut from_server: SplitStream<S>,
        to_client: &mut SplitSink<C, Message>,
    ) {
        let mut client_is_there = true;
        while let Some(Ok(frame)) = from_server.next().await {
            if let (Some(relay), Message::Text(text)) = (&self.relay, &frame) {
                relay.server_sent(text);
            }
            if frame.is_close() {
                break;
            }
            client_is_there = client_is_there && to_client.send(frame).await.is_ok();
        }
    }
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
