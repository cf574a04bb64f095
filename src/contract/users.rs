//! The user of a socket, and the users who are online.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Payload, ServerEvent, Text};
use crate::model::{Id, Time};

/// The longest token, in characters. Most have a few hundred.
pub const MAX_TOKEN_CHARS: usize = 16_384;

/// The number of sockets that a user may have.
pub const MAX_SOCKETS_OF_USER: usize = 100;

/// The longest name of a user, in characters.
pub const MAX_NAME_CHARS: usize = 256;

/// `authenticate`: names the socket's user.
#[derive(Debug, Deserialize)]
pub struct Authenticate {
    /// Required without a token.
    pub id: Option<Id>,
    pub email: Option<Text<256>>,
    pub name: Option<Text<MAX_NAME_CHARS>>,
    pub avatar: Option<Text<2_048>>,
    pub token: Option<Text<MAX_TOKEN_CHARS>>,
}

impl Payload for Authenticate {}

/// A user; an unknown field is `null`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct User {
    pub id: Id,
    pub name: Option<Arc<str>>,
    pub email: Option<Arc<str>>,
    pub avatar: Option<Arc<str>>,
    pub online: bool,
}

/// The acknowledgement of `authenticate`.
#[derive(Serialize)]
pub struct Authenticated<'a> {
    /// A [`User`].
    pub user: &'a RawValue,
}

/// An array of [`User`], already encoded.
#[derive(Serialize)]
#[serde(transparent)]
pub struct OnlineUsers<'a>(pub &'a RawValue);

impl ServerEvent for OnlineUsers<'_> {
    const NAME: &'static str = "online-users";
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UserStatusChange<'a> {
    pub user_id: &'a Id,
    pub status: Status,
    pub timestamp: Time,
    /// Present only if the user went offline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Time>,
}

impl ServerEvent for UserStatusChange<'_> {
    const NAME: &'static str = "user-status-change";
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Online,
    Offline,
}
