//! The wire format: event names, payloads, limits and error codes, as types.
//!
//! One file for each family of events holds the payloads of clients, the server events, and the
//! limits of both. Nothing here knows how an event is decided or stored.

pub mod conversations;
pub mod messages;
mod payload;
pub mod receipts;
mod refusal;
mod reply;
pub mod typing;
pub mod users;

pub use payload::{EventName, Incoming, Payload, Text, read};
pub use refusal::Refusal;
pub use reply::{Accepted, EncodedEvent, Refused, ServerEvent, encode};

/// The largest WebSocket frame or polling request that a client may send, in bytes.
pub const MAX_FRAME_BYTES: usize = 1_000_000;

/// The number of packets in a polling request. One of them may be a CONNECT.
pub const MAX_POLL_PACKETS: usize = 100;
