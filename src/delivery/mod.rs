//! The receivers of each server event: one task turns outcomes into packets, in commit order.
//!
//! The task owns the state of the sockets (rooms, presence, typing), so none of it needs a lock,
//! and the events that a client receives about a conversation keep the order in which the writer
//! accepted them. Only reads leave the task: other tasks run them, and their results return to it.
//! The steps of an outcome are a closed set, so a new event needs no code here.

mod histories;
mod people;
mod reads;
mod sockets;

use std::sync::Arc;

use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::Instant,
};

use crate::{
    commit::Committed,
    contract::{
        Accepted, EncodedEvent, ServerEvent, encode,
        messages::{Delivered, MessageDelivered, MessageSent, ReceiveMessage, Sent},
    },
    events::{Ack, Outcome, Step},
    metrics::{self, Gauges},
    model::{Conversation, Id, Message},
    presence::{Presence, Typing},
    session::{Request, SocketId},
    storage::Storage,
};
use histories::Histories;
use reads::Read;
use sockets::Sockets;

pub struct Delivery {
    storage: Arc<Storage>,
    gauges: Arc<Gauges>,
    /// If true, presence goes to authenticated sockets only.
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
        gauges: Arc<Gauges>,
        needs_tokens: bool,
        mut committed: UnboundedReceiver<Vec<Committed<Request>>>,
    ) {
        let (reads, mut done) = unbounded_channel();
        let mut delivery = Self {
            histories: Histories::new(storage.is_shared()),
            storage,
            gauges,
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
                        delivery.typing_ended(&typist);
                    }
                }
            }
        }
    }

    fn deliver(&mut self, Committed { tag: request, outcome }: Committed<Request>) {
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(refusal) => return request.refuse(&refusal),
        };
        self.bind(&request);
        let Outcome { steps, ack, touched, .. } = outcome;
        if let Some(conversation) = touched {
            self.histories.changed(&conversation);
        }
        let mut entered = None;
        // The last step may answer the request, and so take it.
        let mut request = Some(request);
        for step in steps {
            self.perform(step, &mut request, &mut entered);
        }
        let Some(request) = request else { return };
        match ack {
            Ack::Plain | Ack::OfLastStep => request.acknowledge_with(Accepted::plain),
            Ack::Json(answer) => request.acknowledge(&answer),
        }
    }

    /// Performs a step. `entered` is the room that the asker has entered in an earlier step.
    fn perform(&mut self, step: Step, asker: &mut Option<Request>, entered: &mut Option<Id>) {
        let Some(request) = asker else {
            debug_assert!(false, "the step that answers is the last one");
            return;
        };
        let socket = request.session.id;
        match step {
            Step::Connect => {
                self.sockets.connect(request.session.clone());
                self.bind(request);
                self.count_sockets();
            }
            Step::Disconnect => {
                self.disconnect(socket);
                self.count_sockets();
            }
            Step::Online(profile) => {
                if let Some(request) = asker.take() {
                    self.come_online(request, profile);
                }
            }
            Step::Enter(room) => {
                *entered = self.sockets.enter(socket, &room).then_some(room);
            }
            Step::Leave(room) => self.sockets.leave(socket, &room),
            Step::Message { message, audience } => {
                if let Some(request) = asker.take() {
                    self.send(request, &message, &audience);
                }
            }
            Step::ToAsker(packet) => request.send(&packet),
            Step::ToRoom { room, audience, packet } => {
                self.tell(&room, &audience, &packet, |_, _| true);
            }
            Step::TypingBegins { conversation, user, name, audience } => {
                self.typing_begins(&conversation, &user, &name, audience, socket);
            }
            Step::TypingEnds { conversation, user } => self.typing_ends(&conversation, &user),
            Step::History { conversation, page } => {
                if let Some(request) = asker.take() {
                    self.read_history(request, entered.take(), conversation, page);
                }
            }
            Step::Read(question) => {
                if let Some(request) = asker.take() {
                    self.ask(request, entered.take(), question);
                }
            }
        }
    }

    /// Confirms a message and sends it to the subscribers of the conversation.
    fn send(&mut self, request: Request, message: &Message, audience: &Conversation) {
        let sender = request.session.id;
        let room = &message.conversation_id;
        let json = encode(message);
        request.emit(&MessageSent(&json));
        metrics::confirmed(request.arrived);

        // The typing ends first, so that the sockets that are evicted now receive its end too.
        self.typing_ends(room, &message.sender_id);
        self.sockets.remove_strangers(room, audience);
        let receive = ReceiveMessage(&json).encode();
        let sender_hears = self.sockets.is_in(sender, room);
        self.tell(room, audience, &receive, |socket, _| socket != sender || sender_hears);

        if self.presence.is_any_online_but(&message.sender_id, audience) {
            let status = Delivered::Delivered;
            request.emit(&MessageDelivered { message_id: message.id, status });
        }
        request.acknowledge_with(|| Accepted::encode(Sent { message: &json }));
    }

    /// Sends to the subscribers of the conversation that `chosen` accepts.
    fn tell(
        &self,
        room: &Id,
        audience: &Conversation,
        packet: &EncodedEvent,
        chosen: impl Fn(SocketId, Option<&Id>) -> bool,
    ) {
        for (session, user) in self.sockets.hearing(room, audience) {
            if chosen(session.id, user) {
                session.outlet.emit(packet);
            }
        }
    }

    fn tell_all(&self, event: &impl ServerEvent) {
        let packet = event.encode();
        self.sockets.all(self.needs_tokens).for_each(|session| session.outlet.emit(&packet));
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    if let Some(deadline) = deadline {
        tokio::time::sleep_until(deadline).await;
    }
}
