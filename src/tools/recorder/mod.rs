//! Stands between clients and a server, and writes down what passes as a conversation file.
//!
//! A file is one step after the other, so the recorder lets clients act one at a time: what a
//! client sends waits until all that came of the step before has come, that is, until nothing has
//! come for a quiet time. Otherwise nobody could tell which answer belongs to which step. What the
//! server sends passes at once.

mod link;
mod proxy;
mod recording;
mod text;
mod websocket;

pub use proxy::router;
pub use recording::Recording;
