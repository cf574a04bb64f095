//! The domain of the server: ids, times, messages, conversations and users.
//!
//! These types know nothing of the wire, of sockets or of storage engines. Each value checks itself
//! when it is read, so a value that exists is valid.

mod conversation;
mod id;
mod message;
mod page;
mod parsed;
mod time;
mod user;

pub use conversation::{Conversation, Kind, Role};
pub use id::Id;
pub use message::{Message, MessageId, MessageType, SentKey};
pub use page::{Page, PageLimit, Window};
pub use parsed::Parsed;
pub use time::Time;
pub use user::{Participant, Profile, Summary};
