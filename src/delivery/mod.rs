//! Who gets to see it: one task turns what was committed into server events, in commit order.
//!
//! The task owns all that changes with the sockets (rooms, presence, typing), so that nothing of
//! it needs a lock, and everything that a client receives about a conversation keeps the order in
//! which the writer accepted it. Only reads leave it: a socket enters the room here, its history
//! is read elsewhere, and the answer comes back.

mod histories;
mod reads;
mod reply;
mod sockets;

use std::sync::{Arc, atomic::Ordering};

use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::Instant,
};

use crate::{
    commit::{Committed, Effect, Request},
    contract::{
        Ack, Delivered, Id, MAX_MESSAGE_IDS, Message, Packet, Refusal, ServerEvent, Status, Time,
        encode,
    },
    metrics,
    presence::{Presence, Typing, Typist},
    session::{Session, SocketId},
    storage::{Conversation, Page, Profile, Storage},
    vitals::Vitals,
};
use histories::{EncodedHistory, Histories};
use reads::{Answer, Read};
use sockets::Sockets;

pub struct Delivery {
    storage: Arc<Storage>,
    vitals: Arc<Vitals>,
    /// Then nobody else is told who comes and goes.
    needs_tokens: bool,
    sockets: Sockets,
    presence: Presence,
    typing: Typing,
    histories: Histories,
    reads: UnboundedSender<Read>,
    pending_reads: usize,
}

impl Delivery {
    /// Delivers until the writer has ended and the last event is answered.
    pub async fn run(
        storage: Arc<Storage>,
        vitals: Arc<Vitals>,
        needs_tokens: bool,
        mut committed: UnboundedReceiver<Vec<Committed>>,
    ) {
        let (reads, mut done) = unbounded_channel();
        let mut delivery = Self {
            histories: Histories::new(storage.is_shared()),
            storage,
            vitals,
            needs_tokens,
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
        let Committed { request, outcome } = committed;
        match outcome {
            Ok(effect) => {
                if let Effect::Connected = effect {
                    self.sockets.connect(request.session.clone());
                }
                if let Some(user) = &request.becomes {
                    self.bind(&request.session, user);
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
            Effect::Joined { conversation, page } => {
                let has_entered = self.sockets.enter(socket, &conversation);
                let is_kept =
                    page.is_some_and(|(window, limit)| self.histories.keeps(window, limit));
                if is_kept {
                    if let Some(page) = self.histories.get(&conversation)
                        && !request.session.outlet.is_far_behind()
                    {
                        return request.answer_history(&page);
                    }
                    self.histories.reads(&conversation);
                }
                let storage = self.storage.clone();
                self.read(request, async move {
                    let page = match page {
                        Some((window, limit)) => {
                            storage.history(conversation.clone(), window, limit).await
                        }
                        None => {
                            Ok(Page { entries: Vec::new(), has_more: false, is_partial: false })
                        }
                    };
                    let page = page.map(|page| Arc::new(EncodedHistory::new(&conversation, &page)));
                    Answer::History { conversation, has_entered, is_kept, page }
                });
            }
            Effect::Left { conversation } => {
                self.sockets.leave(socket, &conversation);
                request.acknowledge(&Ack::Done { ok: true });
            }
            Effect::Sent { message, audience } => {
                self.histories.changed(&message.conversation_id);
                self.send(request, &message, &audience);
            }
            Effect::SentBefore { message } => {
                let message = encode(&*message);
                request.emit(&ServerEvent::MessageSent(&message));
                request.acknowledge(&Ack::Sent { ok: true, message: &message });
            }
            Effect::TypingStarted { conversation, user, name, audience } => {
                let heard_by =
                    self.typing.start(&conversation, &user, name.clone(), audience, socket);
                self.tell_typing(&conversation, &user, &name, true, &heard_by);
                request.acknowledge(&Ack::Done { ok: true });
            }
            Effect::TypingStopped { conversation, user } => {
                if let Some(typist) = self.typing.stop(&conversation, &user) {
                    self.tell_typing_ended(&typist);
                }
                request.acknowledge(&Ack::Done { ok: true });
            }
            Effect::MarkedRead { conversation, reader, messages, at, audience } => {
                if !messages.is_empty() {
                    self.histories.changed(&conversation);
                }
                for message_ids in messages.chunks(MAX_MESSAGE_IDS) {
                    let event = ServerEvent::MessagesRead {
                        conversation_id: &conversation,
                        message_ids,
                        read_by: &reader,
                        read_at: at,
                    };
                    self.tell(&conversation, &audience, &event.encode(), |_, _| true);
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
            let now = Time::now();
            let socket = request.session.outlet.sid.to_string();
            self.storage.status_changed(&user, Some(socket), now);
            self.tell_all(&ServerEvent::UserStatusChange {
                user_id: &user,
                status: Status::Online,
                timestamp: now,
                last_seen: None,
            });
        }
        request.emit(&ServerEvent::OnlineUsers(&self.presence.all_json()));
        match self.presence.user_json(&user) {
            Some(user) => request.acknowledge(&Ack::User { ok: true, user }),
            None => request.done(),
        }
    }

    fn send(&mut self, request: Request, message: &Message, audience: &Conversation) {
        let sender = request.session.id;
        let room = &message.conversation_id;
        let json = encode(message);
        request.emit(&ServerEvent::MessageSent(&json));
        metrics::confirmed(request.arrived);

        // First of all, so that those hear of it too who have to leave now.
        if let Some(typist) = self.typing.stop(room, &message.sender_id) {
            self.tell_typing_ended(&typist);
        }
        self.sockets.remove_strangers(room, audience);
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
        if self.sockets.bind(socket, user) {
            // Not one of those that were there before: nobody may drive out somebody else.
            session.outlet.dismiss(&Refusal::TooManySockets, "the user has too many sockets");
        }
    }

    /// One of the user's sockets has gone.
    fn go_offline(&mut self, user: &Id) {
        if self.presence.go(user) {
            self.vitals.online_users.store(self.presence.len(), Ordering::Relaxed);
            let now = Time::now();
            self.storage.status_changed(user, None, now);
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
        self.sockets.all(self.needs_tokens).for_each(|session| session.outlet.emit(&packet));
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    if let Some(deadline) = deadline {
        tokio::time::sleep_until(deadline).await;
    }
}
