//! The presence and the typing of users.

use std::sync::Arc;

use super::Delivery;
use crate::{
    contract::{
        Accepted, Refusal, ServerEvent,
        typing::UserTyping,
        users::{Authenticated, OnlineUsers, Status, UserStatusChange},
    },
    limits::Disconnect,
    model::{Conversation, Id, Profile, Time},
    presence::Typist,
    session::{Request, SocketId},
};

impl Delivery {
    /// Binds the socket to the user that its event names. A socket of another user leaves that
    /// user's rooms and presence.
    pub fn bind(&mut self, request: &Request) {
        let socket = request.session.id;
        let Some(user) = request.becomes() else { return };
        if self.sockets.user(socket) == Some(user) {
            return;
        }
        self.unbind(socket);
        if self.sockets.bind(socket, user) {
            // The newest socket is disconnected: it must not drive out the earlier ones.
            request.session.outlet.dismiss(&Refusal::TooManySockets, Disconnect::TooManySockets);
        }
    }

    pub fn disconnect(&mut self, socket: SocketId) {
        self.unbind(socket);
        self.sockets.disconnect(socket);
    }

    fn unbind(&mut self, socket: SocketId) {
        for typist in self.typing.stop_on(socket) {
            self.typing_ended(&typist);
        }
        if let Some(user) = self.sockets.unbind(socket) {
            self.go_offline(&user);
        }
    }

    pub fn count_sockets(&self) {
        self.gauges.set_connections(self.sockets.len());
    }

    /// Marks the socket as authenticated, which puts its user online.
    pub fn come_online(&mut self, request: Request, profile: Profile) {
        let user = profile.id.clone();
        if !self.sockets.authenticate(request.session.id) {
            self.presence.describe(profile);
        } else if self.presence.come(profile) {
            let socket = request.session.outlet.sid.to_string();
            self.change_status(&user, Some(socket));
        }
        request.emit(&OnlineUsers(&self.presence.all_json()));
        request.acknowledge_with(|| match self.presence.user_json(&user) {
            Some(user) => Accepted::encode(Authenticated { user }),
            // The socket has disconnected meanwhile.
            None => Accepted::plain(),
        });
    }

    /// Counts one socket less for the user, who goes offline with the last one.
    fn go_offline(&mut self, user: &Id) {
        if self.presence.go(user) {
            self.change_status(user, None);
        }
    }

    /// Broadcasts that a user came online on `socket`, or went offline.
    fn change_status(&mut self, user: &Id, socket: Option<String>) {
        self.gauges.set_users_online(self.presence.len());
        let now = Time::now();
        let is_online = socket.is_some();
        self.storage.status_changed(user, socket, now);
        self.tell_all(&UserStatusChange {
            user_id: user,
            status: if is_online { Status::Online } else { Status::Offline },
            timestamp: now,
            last_seen: (!is_online).then_some(now),
        });
    }

    pub fn typing_begins(
        &mut self,
        conversation: &Id,
        user: &Id,
        name: &Arc<str>,
        audience: Conversation,
        socket: SocketId,
    ) {
        let heard_by = self.typing.start(conversation, user, name.clone(), audience, socket);
        self.tell_typing(conversation, user, name, true, &heard_by);
    }

    /// Ends the user's typing, if they were typing.
    pub fn typing_ends(&mut self, conversation: &Id, user: &Id) {
        if let Some(typist) = self.typing.stop(conversation, user) {
            self.typing_ended(&typist);
        }
    }

    pub fn typing_ended(&self, typist: &Typist) {
        let Typist { conversation, user, name, audience, .. } = typist;
        self.tell_typing(conversation, user, name, false, audience);
    }

    fn tell_typing(
        &self,
        conversation: &Id,
        user: &Id,
        name: &str,
        is_typing: bool,
        audience: &Conversation,
    ) {
        let event =
            UserTyping { conversation_id: conversation, user_id: user, user_name: name, is_typing };
        self.tell(conversation, audience, &event.encode(), |_, other| other != Some(user));
    }
}
