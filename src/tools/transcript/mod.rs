//! Conversations as text: the events of each client, and the answers that all receive. It knows the
//! server as its clients do, and starts it as its operators do.
#![doc = ""]
#![doc = include_str!("../../../docs/conversations.md")]

mod compare;
mod names;
mod parse;
mod participant;
mod player;
mod reader;
mod script;
mod server;
mod shorthand;
#[expect(clippy::module_inception, reason = "it is what the module is about")]
mod transcript;

use std::path::Path;

use anyhow::{Context, Result, bail};

pub use compare::{Difference, DifferenceKind};
pub use parse::{parse_duration, settings};
pub use player::play;
pub use reader::Unreadable;
pub use script::{Action, Answer, Content, Line, Script, ScriptStep, ServerSetting, What};
pub use server::{Settle, Stage, StorageKind, Target};
pub use transcript::{Stop, Transcript};

pub(crate) use names::Names;
pub(crate) use script::is_client;
pub(crate) use shorthand::Shown;

/// Plays the conversation in the file at `path` against `server`.
///
/// # Errors
/// The file cannot be read (the error names the line, the column and the expected text), there is
/// no server, or the conversation did not come to its end (the error shows it so far).
pub async fn replay(path: impl AsRef<Path>, server: &Stage) -> Result<Transcript> {
    let path = path.as_ref();
    let at = || path.display().to_string();
    let bytes = std::fs::read(path).with_context(at)?;
    let script = match Script::parse_bytes(&bytes) {
        Ok(script) => script,
        Err(unreadable) => bail!("{}:{unreadable}", path.display()),
    };
    let transcript = play(script, server).await.with_context(at)?;
    match &transcript.stop {
        None => Ok(transcript),
        Some(stop) => bail!("{}: {stop}\n{transcript}", path.display()),
    }
}
