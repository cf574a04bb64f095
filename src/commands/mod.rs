//! The commands of the binary, a file for each.

mod diff;
pub mod file;
pub mod health;
mod logging;
pub mod migrate;
pub mod record;
pub mod replay;
pub mod serve;
mod surroundings;
pub mod token;

use std::{io::Write, path::Path};

use anyhow::{Context, Result};

/// Replaces a file as a whole, so that nothing is lost on a full disk.
fn overwrite(path: &Path, text: &str) -> Result<()> {
    // A symbolic link stays a link.
    let path = path.canonicalize()?;
    let directory = path.parent().context("a file is in a directory")?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(std::fs::metadata(&path)?.permissions())?;
    file.as_file().sync_all()?;
    file.persist(&path)?;
    Ok(())
}
