//! A proxy between clients and a server that writes their traffic as a conversation file.
//!
//! A file is one step after the other, so the recorder lets clients act one at a time: a client's
//! packet waits until the step before is over, that is, until no packet has arrived for a quiet
//! time. Otherwise the file could not assign answers to steps. The server's packets pass at once.

mod proxy;
mod recording;
mod relay;
mod text;
mod websocket;

pub use proxy::router;
pub use recording::Recording;
