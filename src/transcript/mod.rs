//! Conversations as text: who says what, and what everybody receives.
//!
//! A conversation file is a script. Lines at the margin are what happens, a line a step; indented
//! lines are what came of it, so that a file without them is a script and one with them is a
//! transcript of it. Playing a transcript plays its script: indented lines are not read.
//!
//! ```text
//! # Bob reads what Alice wrote.
//! alice connects
//! alice > authenticate {"id":"alice"}       emits an event
//! alice ? send-message {"message":"Hi",…}   emits an event with a callback
//!   alice < message-sent {"id":"<message-1>",…}
//!   alice < ack {"ok":true,…}
//! bob awaits receive-message                goes on when the event has arrived
//! bob disconnects                           says goodbye
//! bob vanishes                              the connection breaks
//! ```
//!
//! Ids that the server made and times change from one run to the next. They are replaced by
//! identity: the same id has the same name everywhere, also in what is sent afterwards. Each
//! client's events stand in the order in which it received them, clients in the order in which
//! they first appeared: between two clients no order is shown, because none is promised.

mod names;
mod player;
mod script;

pub use player::play;
pub use script::{Script, Step};
