//! A compact real-time chat server that speaks Socket.IO: one binary, one file.
//!
//! # The rooms
//!
//! An event walks through these rooms in one direction, and each answers one question:
//!
//! | room | question | knows nothing of |
//! |---|---|---|
//! | [`model`] | What are ids, times, messages, conversations and users, and who belongs where? | everything else |
//! | [`contract`] | What is on the wire? | how anything is decided or stored |
//! | [`events`] | What are the rules: who may, what is written, who hears of it? | sockets, SQL; it neither waits nor writes |
//! | [`commit`] | In which order? Batches, one writer | what an event means, and whom it answers |
//! | [`session`] | One socket: who is it, and what waits? | storage |
//! | [`outlet`] | How does something reach one client, and what if it does not read? | chat rules |
//! | [`gateway`] | socketioxide: how do events come in? | storage |
//! | [`delivery`], [`presence`] | Which sockets get which server event? | how it was decided |
//! | [`storage`] | Where does it live? One enum, one method per question | wire, sockets |
//! | [`http`], [`config`], [`net`], [`limits`], [`tokens`], [`origins`] | the edges | chat rules |
//! | [`metrics`] | figures | everything else |
//! | [`tools`] | the Socket.IO client, conversation files, the recorder | the server's inside |
//!
//! # The arrows
//!
//! A room uses only rooms above it in this list; `tests/server/rooms.rs` fails when one does not.
//!
//! ```text
//! model, metrics, contract, limits, tokens, origins, storage, config, net, outlet,
//! events, commit, session, presence, delivery, gateway, http, server, tools
//! ```
//!
//! # Families
//!
//! Inside a room there is one file for each family of events, with the same name in every room:
//! `ls src/*/messages.rs src/*/*/messages.rs` is a vertical slice.
//!
//! # How to add an event, in five steps
//!
//! 1. A conversation in `tests/conversations/` that says who sends what, and what everybody gets.
//! 2. `contract/<family>.rs`: the payload, what clients receive, the limits.
//! 3. `events/<family>.rs`: `impl Event`, which decides; a line in the table of `events/mod.rs`.
//! 4. If it stores something new: a variant of [`storage::Write`], and how each engine applies it in
//!    `storage/sqlite/<family>.rs` and `storage/mongo/<family>.rs`. If it reads: a method of
//!    [`storage::Storage`].
//! 5. The snapshot: read it, then accept it.

#![forbid(unsafe_code)]

pub mod config;
pub mod contract;
pub mod events;
pub mod model;
pub mod storage;
pub mod tokens;
pub mod tools;

mod commit;
mod delivery;
mod gateway;
mod http;
mod limits;
mod metrics;
mod net;
mod origins;
mod outlet;
mod presence;
mod server;
mod session;

pub use server::{Server, serve};
pub use tools::{client, recorder, transcript};
