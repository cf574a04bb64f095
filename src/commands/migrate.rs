//! `radio-istic migrate`: moves the contents of the file to MongoDB.

use anyhow::{Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use radio_istic::{
    config::{Config, Settings},
    storage::{Place, SqliteFile, migrate},
};

use super::file::Source;

/// Moves the contents of the file to MongoDB. The server must not run; an interrupted migration can
/// be started again
#[derive(Args)]
pub struct Arguments {
    /// MongoDB's connection string
    #[arg(long, value_name = "URI")]
    to: String,

    #[command(flatten)]
    source: Source,
}

pub fn run(Arguments { to, source }: &Arguments) -> Result<()> {
    let path = source.path()?;
    let messages = SqliteFile::open(&path)?.counts()?.messages;
    let settings = Settings {
        mongodb_uri: Some(to.clone()),
        sqlite_path: path.to_str().map(Into::into),
        ..Settings::default()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let config = runtime.block_on(Config::new(&settings))?;
    let place = config.storage.to_string();
    let Place::Mongo { options, outbox } = config.storage else {
        bail!("--to: MongoDB's connection string is empty")
    };
    // Each message is written, and then compared.
    let progress = ProgressBar::new(2 * messages);
    let style = "{bar:40} {pos}/{len} {elapsed_precise}";
    progress.set_style(ProgressStyle::with_template(style)?);
    let _entered = runtime.enter();
    let counts = migrate(&path, *options, &outbox, |count| progress.inc(count))?;
    progress.finish_and_clear();
    anstream::println!(
        "{counts}: written to {place} and compared. Start the server with MONGODB_URI, and keep \
         {} until you have seen it.",
        path.display()
    );
    Ok(())
}
