//! The users who are online, with the number of their sockets, and the users who are typing.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use indexmap::IndexMap;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::{
    contract::{encode, typing::TYPING_LASTS, users::User},
    events::Online,
    model::{Conversation, Id, Profile},
    session::SocketId,
};

/// The users who are online, in the order of their arrival.
#[derive(Default)]
pub struct Presence(IndexMap<Id, Face>);

struct Face {
    user: User,
    /// `user` as JSON, because every newcomer gets the list of all users.
    json: Box<RawValue>,
    sockets: usize,
}

impl Presence {
    /// Counts one more socket of this user. Returns whether it is the first one.
    pub fn come(&mut self, profile: Profile) -> bool {
        let is_first = !self.0.contains_key(&profile.id);
        let face = self.0.entry(profile.id.clone()).or_insert_with(|| Face {
            user: User {
                id: profile.id.clone(),
                name: None,
                email: None,
                avatar: None,
                online: true,
            },
            json: RawValue::NULL.to_owned(),
            sockets: 0,
        });
        face.sockets += 1;
        face.describe(profile);
        is_first
    }

    /// Updates the profile of a user, because one of their sockets has authenticated again.
    pub fn describe(&mut self, profile: Profile) {
        if let Some(face) = self.0.get_mut(&profile.id) {
            face.describe(profile);
        }
    }

    /// Counts one socket less. Returns whether it was the last one.
    pub fn go(&mut self, user: &Id) -> bool {
        let Some(face) = self.0.get_mut(user) else { return false };
        face.sockets -= 1;
        let is_last = face.sockets == 0;
        if is_last {
            self.0.shift_remove(user);
        }
        is_last
    }

    fn is_online(&self, user: &Id) -> bool {
        self.0.contains_key(user)
    }

    /// Whether one of a conversation's participants but `user` is online.
    pub fn is_any_online_but(&self, user: &Id, conversation: &Conversation) -> bool {
        if conversation.size() <= self.0.len() {
            conversation.participants().any(|other| other != user && self.is_online(other))
        } else {
            self.0.keys().any(|other| other != user && conversation.has(other))
        }
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The JSON of a user who is online.
    pub fn user_json(&self, id: &Id) -> Option<&RawValue> {
        self.0.get(id).map(|face| &*face.json)
    }

    /// The JSON array of all users who are online.
    pub fn all_json(&self) -> Box<RawValue> {
        let users: Vec<&RawValue> = self.0.values().map(|face| &*face.json).collect();
        encode(&users)
    }
}

impl Online for Presence {
    fn user(&self, id: &Id) -> Option<&User> {
        self.0.get(id).map(|face| &face.user)
    }
}

impl Face {
    fn describe(&mut self, profile: Profile) {
        let user = &mut self.user;
        user.name = profile.name.or(user.name.take());
        user.email = profile.email.or(user.email.take());
        user.avatar = profile.avatar.or(user.avatar.take());
        self.json = encode(user);
    }
}

/// The users who are typing, by conversation, with the times at which it ends.
#[derive(Default)]
pub struct Typing {
    typing: HashMap<(Id, Id), Typist>,
    /// The times to check an entry, in order, because typing always lasts equally long. A renewed
    /// entry stands here again, and its earlier times mean nothing.
    deadlines: VecDeque<(Instant, (Id, Id))>,
}

/// A user who is typing.
pub struct Typist {
    pub conversation: Id,
    pub user: Id,
    pub name: Arc<str>,
    /// The users to whom the typing was shown.
    pub audience: Conversation,
    /// The socket on which the user types; the typing ends with it.
    socket: SocketId,
    until: Instant,
}

impl Typing {
    /// Starts or renews. Returns the receivers: with a renewal, also all earlier ones.
    pub fn start(
        &mut self,
        conversation: &Id,
        user: &Id,
        name: Arc<str>,
        mut audience: Conversation,
        socket: SocketId,
    ) -> Conversation {
        let until = Instant::now() + TYPING_LASTS;
        let key = (conversation.clone(), user.clone());
        self.deadlines.push_back((until, key.clone()));
        if let Some(before) = self.typing.remove(&key) {
            // A receiver of the beginning has to receive the end too.
            audience.add(before.audience.participants());
        }
        let heard_by = audience.clone();
        let (conversation, user) = key.clone();
        self.typing.insert(key, Typist { conversation, user, name, audience, socket, until });
        heard_by
    }

    /// Returns the typist, if the user was typing.
    pub fn stop(&mut self, conversation: &Id, user: &Id) -> Option<Typist> {
        if self.typing.is_empty() {
            return None;
        }
        self.typing.remove(&(conversation.clone(), user.clone()))
    }

    /// Ends all typing on a socket.
    pub fn stop_on(&mut self, socket: SocketId) -> Vec<Typist> {
        self.typing
            .extract_if(|_, typist| typist.socket == socket)
            .map(|(_, typist)| typist)
            .collect()
    }

    /// The earliest time at which typing may have ended.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.front().map(|(deadline, _)| *deadline)
    }

    /// Ends the typing that was not renewed in time.
    pub fn expire(&mut self, now: Instant) -> Vec<Typist> {
        let mut expired = Vec::new();
        while let Some((_, key)) = self.deadlines.pop_front_if(|(deadline, _)| *deadline <= now) {
            if self.typing.get(&key).is_some_and(|typist| typist.until <= now) {
                expired.extend(self.typing.remove(&key));
            }
        }
        expired
    }
}
