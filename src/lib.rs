//! A compact real-time chat server that speaks Socket.IO: one binary, one file.
//!
//! # The rooms
//!
//! An event passes these rooms in one direction, and each has one responsibility:
//!
//! | room | responsibility | knows nothing of |
//! |---|---|---|
//! | [`model`] | ids, times, messages, users, conversations and their members | everything else |
//! | [`contract`] | the wire format | decisions and storage |
//! | [`events`] | the rules: permissions, writes, receivers | sockets, SQL; no waits, no writes |
//! | [`commit`] | the order: batches, one writer | the meaning of an event, and its requester |
//! | [`session`] | one socket: its user, and its waiting events | storage |
//! | [`outlet`] | the packets to one client, and slow readers | chat rules |
//! | [`gateway`] | socketioxide: the way of events into the server | storage |
//! | [`delivery`], [`presence`] | the sockets that receive each server event | decisions |
//! | [`storage`] | the place of the data: one enum, one method per question | wire, sockets |
//! | [`http`], [`config`], [`net`], [`limits`], [`tokens`], [`origins`] | the edges | chat rules |
//! | [`metrics`] | figures | everything else |
//! | [`tools`] | the Socket.IO client, conversation files, the recorder | the server's inside |
//!
//! # The arrows
//!
//! A room uses only rooms above it in this list; `tests/server/rooms.rs` fails when one does not.
//!
//! ```text
//! model, metrics, storage, contract, limits, tokens, origins, config, net, outlet,
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
//! 1. A conversation in `tests/conversations/` with the events of each client, and all their
//!    answers.
//! 2. `contract/<family>.rs`: the payload, the server events, the limits.
//! 3. `events/<family>.rs`: `impl Event`, which decides; a line in the table of `events/mod.rs`.
//! 4. If it stores something new: a variant of [`storage::Write`], and how each engine applies it
//!    in `storage/sqlite/<family>.rs` and `storage/mongo/<family>.rs`. If it reads: a method of
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
