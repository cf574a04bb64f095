//! Who gets to see it: one task turns what was committed into server events, in commit order.
//!
//! The task owns all that changes with the sockets (rooms, presence, typing), so that nothing of
//! it needs a lock, and everything that a client receives about a conversation keeps the order in
//! which the writer accepted it. Only reads leave it: a socket enters the room here, its history
//! is read elsewhere, and the answer comes back.

mod sockets;

use std::sync::{Arc, atomic::Ordering};

use anyhow::Result;
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::Instant,
};

use crate::{
    commit::{Committed, Effect},
    contract::{
        Ack, ConversationSummary, Delivered, Id, Message, Packet, Participant, Refusal,
        ServerEvent, Status, Time, encode,
    },
    presence::{Presence, Typing, Typist},
    session::{Session, SocketId},
    storage::{Conversation, Page, Profile, Storage, Summary},
    vitals::Vitals,
};
use sockets::Sockets;

pub struct Delivery {
    storage: Arc<Storage>,
    vitals: Arc<Vitals>,
    sockets: Sockets,
    presence: Presence,
    typing: Typing,
    reads: UnboundedSender<Read>,
    pending_reads: usize,
}

/// Whom an answer goes to, and for which event.
struct Request {
    session: Arc<Session>,
    event: std::borrow::Cow<'static, str>,
    ack: Option<i64>,
    unblocks: bool,
}

/// A read that has come back.
struct Read {
    request: Request,
    answer: Answer,
}

enum Answer {
    History { conversation: Id, page: Result<EncodedHistory> },
    Conversations(Result<Option<Page<Summary>>>),
}

struct EncodedHistory {
    messages: Box<serde_json::value::RawValue>,
    has_more: bool,
}

impl Delivery {
    /// Delivers until the writer has ended and the last event is answered.
    pub async fn run(
        storage: Arc<Storage>,
        vitals: Arc<Vitals>,
        mut committed: UnboundedReceiver<Vec<Committed>>,
    ) {
        let (reads, mut done) = unbounded_channel();
        let mut delivery = Self {
            storage,
            vitals,
            sockets: Sockets::default(),
            presence: Presence::default(),
            typing: Typing::default(),
            reads,
            pending_reads: 0,
        };
        let mut has_ended = false;
        while !has_ended || delivery.pending_reads > 0 {
            let typing_ends = delivery.typing.next_deadline();
            tokio::select! {
                batch = committed.recv(), if !has_ended => match batch {
                    Some(batch) => batch.into_iter().for_each(|committed| delivery.deliver(committed)),
                    None => has_ended = true,
                },
                Some(read) = done.recv() => delivery.answer(read),
                () = sleep_until(typing_ends), if typing_ends.is_some() => {
                    for typist in delivery.typing.expire(Instant::now()) {
                        delivery.tell_typing_ended(&typist);
                    }
                }
            }
        }
    }

    fn deliver(&mut self, committed: Committed) {
        let Committed { session, event, ack, becomes, unblocks, outcome } = committed;
        let request = Request { session, event, ack, unblocks };
        match outcome {
            Ok(effect) => {
                if let Some(user) = becomes {
                    self.bind(&request.session, &user);
                }
                self.perform(request, effect);
            }
            Err(refusal) => request.refuse(&refusal),
        }
    }

    fn perform(&mut self, request: Request, effect: Effect) {
        let socket = request.session.id;
        match effect {
            Effect::Connected => {
                self.sockets.connect(request.session.clone());
                self.vitals.connections.store(self.sockets.len(), Ordering::Relaxed);
                request.done();
            }
            Effect::Disconnected => {
                self.end_typing_on(socket);
                if let Some(user) = self.sockets.disconnect(socket) {
                    self.go_offline(&user);
                }
                self.vitals.connections.store(self.sockets.len(), Ordering::Relaxed);
                request.done();
            }
            Effect::Authenticated(profile) => self.authenticate(request, profile),
            Effect::Joined { conversation, window, limit } => {
                self.sockets.enter(socket, &conversation);
                let storage = self.storage.clone();
                self.read(request, async move {
                    let page = storage.history(conversation.clone(), window, limit).await;
                    Answer::History { conversation, page: page.map(EncodedHistory::new) }
                });
            }
            Effect::Left { conversation } => {
                self.sockets.leave(socket, &conversation);
                request.acknowledge(&Ack::Done { ok: true });
            }
            Effect::Sent { message, audience } => self.send(request, &message, &audience),
            Effect::SentBefore { message } => {
                let message = encode(&*message);
                request.emit(&ServerEvent::MessageSent(&message));
                request.acknowledge(&Ack::Sent { ok: true, message: &message });
            }
            Effect::TypingStarted { conversation, user, name, audience } => {
                self.tell_typing(&conversation, &user, &name, true, &audience);
                self.typing.start(conversation, user, name, audience, socket);
                request.acknowledge(&Ack::Done { ok: true });
            }
            Effect::TypingStopped { conversation, user, audience } => {
                if let Some(typist) = self.typing.stop(&conversation, &user) {
                    self.tell_typing(&conversation, &user, &typist.name, false, &audience);
                }
                request.acknowledge(&Ack::Done { ok: true });
            }
            Effect::MarkedRead { conversation, reader, messages, at, audience } => {
                if !messages.is_empty() {
                    let packet = ServerEvent::MessagesRead {
                        conversation_id: &conversation,
                        message_ids: &messages,
                        read_by: &reader,
                        read_at: at,
                    };
                    self.tell(&conversation, &audience, &packet.encode(), |_, _| true);
                }
                request.acknowledge(&Ack::Read { ok: true, message_ids: &messages, read_at: at });
            }
            Effect::Listed { user, before, limit } => {
                let storage = self.storage.clone();
                self.read(request, async move {
                    Answer::Conversations(storage.conversations_of(user, before, limit).await)
                });
            }
        }
    }

    fn authenticate(&mut self, request: Request, profile: Profile) {
        let user = profile.id.clone();
        if !self.sockets.authenticate(request.session.id) {
            self.presence.describe(profile);
        } else if self.presence.come(profile) {
            self.vitals.online_users.store(self.presence.len(), Ordering::Relaxed);
            self.tell_all(&ServerEvent::UserStatusChange {
                user_id: &user,
                status: Status::Online,
                timestamp: Time::now(),
                last_seen: None,
            });
        }
        request.emit(&ServerEvent::OnlineUsers(&self.presence.all_json()));
        if let Some(user) = self.presence.user_json(&user) {
            request.acknowledge(&Ack::User { ok: true, user });
        }
    }

    fn send(&mut self, request: Request, message: &Message, audience: &Conversation) {
        let sender = request.session.id;
        let room = &message.conversation_id;
        let json = encode(message);
        request.emit(&ServerEvent::MessageSent(&json));

        // First of all, so that those hear of it too who are put out now.
        if let Some(typist) = self.typing.stop(room, &message.sender_id) {
            self.tell_typing_ended(&typist);
        }
        self.sockets.put_out_strangers(room, audience);
        let receive = ServerEvent::ReceiveMessage(&json).encode();
        let sender_hears = self.sockets.is_in(sender, room);
        self.tell(room, audience, &receive, |socket, _| socket != sender || sender_hears);

        if self.presence.is_any_online_but(&message.sender_id, audience) {
            let status = Delivered::Delivered;
            request.emit(&ServerEvent::MessageDelivered { message_id: message.id, status });
        }
        request.acknowledge(&Ack::Sent { ok: true, message: &json });
    }

    /// Makes the socket the user's. One that was another's leaves that user's rooms and presence.
    fn bind(&mut self, session: &Arc<Session>, user: &Id) {
        let socket = session.id;
        if self.sockets.user(socket) == Some(user) {
            return;
        }
        self.end_typing_on(socket);
        if let Some(before) = self.sockets.unbind(socket) {
            self.go_offline(&before);
        }
        self.sockets.bind(socket, user);
    }

    /// One of the user's sockets has gone.
    fn go_offline(&mut self, user: &Id) {
        if self.presence.go(user) {
            self.vitals.online_users.store(self.presence.len(), Ordering::Relaxed);
            let now = Time::now();
            self.tell_all(&ServerEvent::UserStatusChange {
                user_id: user,
                status: Status::Offline,
                timestamp: now,
                last_seen: Some(now),
            });
        }
    }

    fn end_typing_on(&mut self, socket: SocketId) {
        for typist in self.typing.stop_on(socket) {
            self.tell_typing_ended(&typist);
        }
    }

    fn tell_typing_ended(&self, typist: &Typist) {
        self.tell_typing(&typist.conversation, &typist.user, &typist.name, false, &typist.audience);
    }

    fn tell_typing(
        &self,
        conversation: &Id,
        user: &Id,
        name: &str,
        is_typing: bool,
        audience: &Conversation,
    ) {
        let event = ServerEvent::UserTyping {
            conversation_id: conversation,
            user_id: user,
            user_name: name,
            is_typing,
        };
        self.tell(conversation, audience, &event.encode(), |_, other| other != Some(user));
    }

    /// Sends to all who hear of a conversation and whom `chosen` takes.
    fn tell(
        &self,
        room: &Id,
        audience: &Conversation,
        packet: &Packet,
        chosen: impl Fn(SocketId, Option<&Id>) -> bool,
    ) {
        for (session, user) in self.sockets.hearing(room, audience) {
            if chosen(session.id, user) {
                session.outlet.emit(packet);
            }
        }
    }

    fn tell_all(&self, event: &ServerEvent) {
        let packet = event.encode();
        self.sockets.all().for_each(|session| session.outlet.emit(&packet));
    }

    fn read(&mut self, request: Request, answer: impl Future<Output = Answer> + Send + 'static) {
        self.pending_reads += 1;
        let reads = self.reads.clone();
        tokio::spawn(async move {
            let answer = answer.await;
            // The delivery waits for all its reads before it ends.
            let _ = reads.send(Read { request, answer });
        });
    }

    fn answer(&mut self, Read { request, answer }: Read) {
        self.pending_reads -= 1;
        match answer {
            Answer::History { conversation, page: Ok(EncodedHistory { messages, has_more }) } => {
                let conversation_id = &conversation;
                let messages = &messages;
                request.emit(&ServerEvent::ConversationHistory {
                    conversation_id,
                    messages,
                    has_more,
                });
                request.acknowledge(&Ack::Joined { ok: true, conversation_id, messages, has_more });
            }
            Answer::History { conversation, page: Err(error) } => {
                self.sockets.leave(request.session.id, &conversation);
                request.fail(&error);
            }
            Answer::Conversations(Ok(Some(Page { entries, has_more }))) => {
                let summaries: Vec<_> =
                    entries.into_iter().map(|entry| self.summarize(entry)).collect();
                let conversations = &encode(&summaries);
                request.emit(&ServerEvent::ConversationList { conversations, has_more });
                request.acknowledge(&Ack::Listed { ok: true, conversations, has_more });
            }
            Answer::Conversations(Ok(None)) => {
                let reason = "before: the user has no conversation with this id";
                request.refuse(&Refusal::InvalidPayload(reason.into()));
            }
            Answer::Conversations(Err(error)) => request.fail(&error),
        }
    }

    /// Adds what only presence knows.
    fn summarize(&self, summary: Summary) -> ConversationSummary {
        let participants = summary.participants.into_iter().map(|stored| {
            let Some(user) = self.presence.user(&stored.id) else { return stored };
            Participant {
                name: user.name.clone().or(stored.name),
                avatar: user.avatar.clone().or(stored.avatar),
                online: true,
                id: stored.id,
            }
        });
        ConversationSummary {
            conversation_id: summary.id,
            is_open: summary.is_open,
            participants: participants.collect(),
            last_message: summary.last_message,
            unread_count: summary.unread_count,
        }
    }
}

impl EncodedHistory {
    fn new(page: Page<Message>) -> Self {
        Self { messages: encode(&page.entries), has_more: page.has_more }
    }
}

impl Request {
    /// Sends an event to the socket that asked.
    fn emit(&self, event: &ServerEvent) {
        self.session.outlet.emit(&event.encode());
    }

    fn acknowledge(self, ack: &Ack) {
        if let Some(id) = self.ack {
            self.session.outlet.ack(id, ack);
        }
        self.done();
    }

    /// Accepted, with nothing to say.
    fn done(self) {
        self.session.answered(true, self.unblocks);
    }

    fn refuse(self, refusal: &Refusal) {
        let message = &*refusal.message();
        self.emit(&ServerEvent::Error { code: refusal.code(), message, event: &self.event });
        if let Some(id) = self.ack {
            self.session.outlet.ack(id, &Ack::refused(refusal, message));
        }
        self.session.answered(false, self.unblocks);
    }

    /// Refuses because a read failed.
    fn fail(self, error: &anyhow::Error) {
        tracing::error!(event = %self.event, error = format!("{error:#}"), "read failed");
        let is_panic = error.is::<tokio::task::JoinError>();
        self.refuse(if is_panic { &Refusal::Internal } else { &Refusal::StorageUnavailable });
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    if let Some(deadline) = deadline {
        tokio::time::sleep_until(deadline).await;
    }
}
