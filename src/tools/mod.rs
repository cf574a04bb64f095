//! Conversations as regression tests: a product of its own, which any Socket.IO server may use.
//!
//! Only `transcript` knows this server, to start one for each conversation.

pub mod client;
pub mod recorder;
pub mod transcript;
