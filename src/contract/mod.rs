//! What is on the wire: every event name, payload, limit and error code, as types.
//!
//! Nothing here knows how an event is handled or stored. No other file of the server contains the
//! string of an event's name, and a limit stands beside the type that it limits.

mod client;
mod refusal;
mod server;
mod values;

pub use client::{
    Authenticate, ClientEvent, Incoming, JoinConversation, LeaveConversation, ListConversations,
    MarkAsRead, SendMessage, Typing, message_named,
};
pub use refusal::Refusal;
pub use server::{
    Ack, ConversationSummary, Delivered, Message, MessageType, Packet, Participant, ServerEvent,
    Status, User, encode,
};
pub use values::{Id, MessageId, PageLimit, Text, Time};

/// The largest message content, in Unicode code points.
pub const MAX_CONTENT_CHARS: usize = 10_000;

/// The most message ids that one `mark-as-read` may name.
pub const MAX_MESSAGE_IDS: usize = 1_000;

/// The longest token. Most have a few hundred characters.
pub const MAX_TOKEN_CHARS: usize = 16_384;

/// The most rooms that a socket may be in.
pub const MAX_ROOMS: usize = 1_000;

/// The most sockets that a user may have.
pub const MAX_SOCKETS_OF_USER: usize = 100;

/// The largest frame or polling request a client may send, in bytes.
pub const MAX_FRAME_BYTES: usize = 1_000_000;

/// How many messages a page of history has when the client gives no `limit`.
pub const HISTORY_PAGE: PageLimit = PageLimit::new(100);

/// How many conversations a page of the list has when the client gives no `limit`.
pub const CONVERSATIONS_PAGE: PageLimit = PageLimit::new(50);

/// How many participants of an open room `conversation-list` shows.
pub const LISTED_PARTICIPANTS: usize = 20;

/// Typing ends by itself after this long without a renewal.
pub const TYPING_LASTS: std::time::Duration = std::time::Duration::from_secs(6);
