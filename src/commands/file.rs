//! The commands for a SQLite file: `backup`, `check`, `export`, `import`.

use std::{
    fs::File,
    io::{BufReader, BufWriter, Write, stdin, stdout},
    path::PathBuf,
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use radio_istic::{
    config::Settings,
    storage::{Sqlite, SqliteFile, private_options},
};

/// The file that a command works on.
#[derive(Args)]
pub struct Source {
    /// The SQLite file [default: radio-istic.db]
    #[arg(long, env = "SQLITE_PATH", value_name = "FILE")]
    sqlite_path: Option<String>,
}

impl Source {
    pub fn path(&self) -> Result<PathBuf> {
        let settings = Settings { sqlite_path: self.sqlite_path.clone(), ..Settings::default() };
        let path = settings.sqlite_path().text.unwrap_or_default();
        ensure!(path != ":memory:", "SQLITE_PATH: a database in memory is in no file");
        Ok(path.into())
    }
}

/// Copies the file, also while a server writes to it, and checks the copy
#[derive(Args)]
pub struct Backup {
    /// The copy, which must not exist yet
    #[arg(value_name = "COPY")]
    copy: PathBuf,

    #[command(flatten)]
    source: Source,
}

/// Reads the whole file, and prints the numbers of its entries, or its defect
#[derive(Args)]
pub struct Check {
    /// The file [default: that of the server]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    #[command(flatten)]
    source: Source,
}

/// Writes everything as JSON Lines, also while a server writes to the file
#[derive(Args)]
pub struct Export {
    /// The file to write [default: the standard output]
    #[arg(value_name = "LINES")]
    lines: Option<PathBuf>,

    #[command(flatten)]
    source: Source,
}

/// Reads an export; entries that exist already stay unchanged
#[derive(Args)]
pub struct Import {
    /// The file to read [default: the standard input]
    #[arg(value_name = "LINES")]
    lines: Option<PathBuf>,

    #[command(flatten)]
    source: Source,
}

pub fn back_up(Backup { copy, source }: &Backup) -> Result<()> {
    let counts = SqliteFile::open(&source.path()?)?.back_up(copy)?;
    anstream::println!("{}: {counts}", copy.display());
    Ok(())
}

pub fn check(Check { file, source }: &Check) -> Result<()> {
    let path = file.clone().map_or_else(|| source.path(), Ok)?;
    let file = SqliteFile::open(&path)?;
    let counts = file.check()?;
    let version = file.schema_version()?;
    anstream::println!("{}: good, schema version {version}, {counts}", path.display());
    Ok(())
}

pub fn export(Export { lines, source }: &Export) -> Result<()> {
    let mut file = SqliteFile::open(&source.path()?)?;
    let counts = match lines {
        None => {
            let mut to = BufWriter::new(stdout().lock());
            let counts = file.export(&mut to)?;
            to.flush()?;
            counts
        }
        Some(path) => {
            // An existing file is never overwritten.
            let mut options = private_options();
            let to = options.write(true).create_new(true).open(path);
            let to = to.with_context(|| path.display().to_string())?;
            let mut to = BufWriter::new(to);
            let counts = file.export(&mut to)?;
            to.into_inner()?.sync_all()?;
            counts
        }
    };
    eprintln!("{counts}");
    Ok(())
}

pub fn import(Import { lines, source }: &Import) -> Result<()> {
    let path = source.path()?;
    let file = Sqlite::open(&path).with_context(|| path.display().to_string())?;
    let counts = match lines {
        None => file.import(stdin().lock()),
        Some(lines) => {
            let from = File::open(lines).with_context(|| lines.display().to_string())?;
            file.import(BufReader::new(from)).with_context(|| lines.display().to_string())
        }
    }?;
    eprintln!("{}: {counts}", path.display());
    Ok(())
}
