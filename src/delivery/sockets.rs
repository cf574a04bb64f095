//! The connected sockets: their users, their rooms, and the subscribers of each conversation.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{
    contract::users::MAX_SOCKETS_OF_USER,
    model::{Conversation, Id},
    session::{Session, SocketId},
};

#[derive(Default)]
pub struct Sockets {
    sockets: HashMap<SocketId, Member>,
    of_user: HashMap<Id, Vec<SocketId>>,
    /// The sockets in each room. Each session keeps the rooms that it is in.
    rooms: HashMap<Id, HashSet<SocketId>>,
}

/// A connected socket.
pub struct Member {
    session: Arc<Session>,
    user: Option<Id>,
    /// Only `authenticate` puts a user online; other events bind the socket alone.
    is_authenticated: bool,
}

impl Sockets {
    pub fn connect(&mut self, session: Arc<Session>) {
        let member = Member { user: None, is_authenticated: false, session };
        self.sockets.insert(member.session.id, member);
    }

    /// Removes the socket, which was taken from its user before.
    pub fn disconnect(&mut self, socket: SocketId) {
        self.sockets.remove(&socket);
    }

    /// The user of the socket.
    pub fn user(&self, socket: SocketId) -> Option<&Id> {
        self.sockets.get(&socket)?.user.as_ref()
    }

    /// Binds the socket to the user. Returns whether the user has too many sockets now.
    pub fn bind(&mut self, socket: SocketId, user: &Id) -> bool {
        let Some(member) = self.sockets.get_mut(&socket) else { return false };
        member.user = Some(user.clone());
        let sockets = self.of_user.entry(user.clone()).or_default();
        sockets.push(socket);
        sockets.len() > MAX_SOCKETS_OF_USER
    }

    /// Takes the socket from its user and out of all rooms. Returns the user if the socket had
    /// put them online.
    pub fn unbind(&mut self, socket: SocketId) -> Option<Id> {
        let member = self.sockets.get_mut(&socket)?;
        let rooms = member.session.leave_all();
        let was_authenticated = std::mem::take(&mut member.is_authenticated);
        let user = member.user.take();
        for room in &rooms {
            remove_from(
                &mut self.rooms,
                room,
                |sockets| sockets.remove(&socket),
                HashSet::is_empty,
            );
        }
        let user = user?;
        remove_from(
            &mut self.of_user,
            &user,
            |sockets| sockets.retain(|id| *id != socket),
            Vec::is_empty,
        );
        was_authenticated.then_some(user)
    }

    /// Marks the socket as authenticated. Returns whether it was not before.
    pub fn authenticate(&mut self, socket: SocketId) -> bool {
        let member = self.sockets.get_mut(&socket);
        member.is_some_and(|member| !std::mem::replace(&mut member.is_authenticated, true))
    }

    /// Returns whether the socket was not in the room before.
    pub fn enter(&mut self, socket: SocketId, room: &Id) -> bool {
        let Some(member) = self.sockets.get_mut(&socket) else { return false };
        self.rooms.entry(room.clone()).or_default().insert(socket);
        member.session.enter(room)
    }

    pub fn leave(&mut self, socket: SocketId, room: &Id) {
        if let Some(member) = self.sockets.get_mut(&socket)
            && member.session.leave(room)
        {
            remove_from(
                &mut self.rooms,
                room,
                |sockets| sockets.remove(&socket),
                HashSet::is_empty,
            );
        }
    }

    pub fn is_in(&self, socket: SocketId, room: &Id) -> bool {
        self.rooms.get(room).is_some_and(|sockets| sockets.contains(&socket))
    }

    /// Evicts the sockets of non-participants from the room of a conversation. They may have joined
    /// while the conversation was unknown.
    pub fn remove_strangers(&mut self, room: &Id, conversation: &Conversation) {
        if conversation.is_open() {
            return;
        }
        let belongs =
            |socket: &SocketId| self.user(*socket).is_some_and(|user| conversation.has(user));
        let in_room = self.rooms.get(room).into_iter().flatten().copied();
        let strangers: Vec<_> = in_room.filter(|socket| !belongs(socket)).collect();
        for socket in strangers {
            self.leave(socket, room);
        }
    }

    /// All sockets, or only the sockets that have a user.
    pub fn all(&self, bound_only: bool) -> impl Iterator<Item = &Arc<Session>> {
        let members = self.sockets.values();
        members
            .filter(move |member| !bound_only || member.user.is_some())
            .map(|member| &member.session)
    }

    pub fn len(&self) -> usize {
        self.sockets.len()
    }

    /// The subscribers of a conversation: the sockets of its participants, and all sockets in the
    /// room if it is open. Each socket comes once, with its user.
    pub fn hearing<'a>(
        &'a self,
        room: &'a Id,
        conversation: &'a Conversation,
    ) -> impl Iterator<Item = (&'a Arc<Session>, Option<&'a Id>)> {
        // A former participant may still be in the room of a conversation that is not open.
        let in_room = self.rooms.get(room).filter(|_| conversation.is_open());
        // A lobby has many more participants than there are connected users.
        let by_participant = conversation.size() <= self.of_user.len();
        let few = conversation
            .participants()
            .filter(move |_| by_participant)
            .filter_map(|user| self.of_user.get(user));
        let many =
            self.of_user.iter().filter(move |(user, _)| !by_participant && conversation.has(user));
        let elsewhere = few
            .chain(many.map(|(_, sockets)| sockets))
            .flatten()
            .filter(move |socket| !in_room.is_some_and(|room| room.contains(*socket)));
        in_room.into_iter().flatten().chain(elsewhere).filter_map(|socket| {
            let member = self.sockets.get(socket)?;
            Some((&member.session, member.user.as_ref()))
        })
    }
}

fn remove_from<T, R>(
    map: &mut HashMap<Id, T>,
    key: &Id,
    remove: impl FnOnce(&mut T) -> R,
    is_empty: impl FnOnce(&T) -> bool,
) {
    if let Some(entry) = map.get_mut(key) {
        remove(entry);
        if is_empty(entry) {
            map.remove(key);
        }
    }
}
