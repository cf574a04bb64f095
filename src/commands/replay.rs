//! `radio-istic replay`: plays conversation files and compares the events that each client
//! receives.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::ExitCode,
    str::FromStr,
    time::Duration,
};

use anstyle::{AnsiColor, Style};
use anyhow::{Context, Result};
use clap::{
    Args, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};
use futures_util::{StreamExt, stream};
use radio_istic::{
    client::TransportKind,
    transcript::{
        Difference, Script, Settle, Stage, StorageKind, Target, Transcript, parse_duration, play,
    },
};
use serde::Serialize;
use tracing_subscriber::EnvFilter;

use super::{diff::Diff, overwrite};

/// Plays conversation files with real clients and compares the events that they receive
#[derive(Args)]
#[command(after_help = "Exit code 0: all is as the files say. 1: something differs, or a \
    conversation could not go on. 2: a file cannot be read, or there is no server.")]
pub struct Arguments {
    /// Conversation files. A file without answers is played and printed
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// The server to play against, any one of Socket.IO v4 [default: one of its own for each file]
    #[arg(long)]
    url: Option<String>,

    /// Write the received events into the files
    #[arg(long)]
    accept: bool,

    /// The format of the results; json is one object per file, each on a line
    #[arg(long, value_enum, default_value = "text")]
    format: Format,

    /// The time limit of a wait in a step
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "5s")]
    timeout: Duration,

    /// A step ends after this long without an event, on servers that do not acknowledge
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "250ms")]
    quiet: Duration,

    /// The sign that a step has ended [default: ask, where the server answers as this one does]
    #[arg(long, value_parser = one_of::<Settle>(&Settle::NAMES))]
    settle: Option<Settle>,

    /// The number of files that are played at once [default: one for each CPU; with --url, 1]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,

    /// The transport of clients that name none
    #[arg(long, value_parser = one_of::<TransportKind>(&TransportKind::NAMES), default_value = "websocket")]
    transport: TransportKind,

    /// The storage of its own servers, unless a file says STORAGE
    #[arg(
        long,
        value_parser = one_of::<StorageKind>(&StorageKind::NAMES),
        default_value = "sqlite",
        conflicts_with = "url"
    )]
    storage: StorageKind,

    /// The MongoDB server for conversations on mongodb: each gets a database of its own
    #[arg(long, env, value_name = "URI", hide_env_values = true)]
    mongodb_uri: Option<String>,

    /// Compare without regard to the order of fields
    #[arg(long)]
    sort_keys: bool,
}

/// Takes one of the names of a type, which the help shows.
fn one_of<T>(names: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err = &'static str> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).try_map(|name| name.parse())
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// The result of a file.
enum Verdict {
    /// The file had no answers.
    New(Transcript),
    Same,
    Different(Transcript, Vec<Difference>),
    /// The conversation stopped before its end.
    Stopped(Transcript, Vec<Difference>),
    Accepted,
    /// The file cannot be read or written, or there is no server.
    Impossible(String),
}

pub fn run(arguments: Arguments) -> Result<ExitCode> {
    // A server of its own logs warnings only.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(replay_all(arguments))
}

async fn replay_all(arguments: Arguments) -> Result<ExitCode> {
    let server = server(&arguments);
    let Arguments { files, accept, sort_keys, format, .. } = arguments;
    let at_once = match (arguments.jobs, &server.target) {
        (Some(jobs), _) => jobs,
        (None, Target::At(_)) => NonZeroUsize::MIN,
        (None, Target::Own { .. }) => std::thread::available_parallelism()?,
    };
    let mut outcomes = stream::iter(files)
        .map(|path| {
            let server = server.clone();
            let replaying = async move {
                let outcome = replay(&path, &server, accept, sort_keys).await;
                (path, outcome.unwrap_or_else(|error| Verdict::Impossible(format!("{error:#}"))))
            };
            tokio::spawn(replaying)
        })
        .buffered(at_once.get());
    let mut codes = Vec::new();
    while let Some(replayed) = outcomes.next().await {
        let (path, outcome) = replayed?;
        match format {
            Format::Text => outcome.print(&path),
            Format::Json => anstream::println!("{}", outcome.json(&path)?),
        }
        codes.push(outcome.exit_code());
    }
    if format == Format::Text {
        let count = |code| codes.iter().filter(|other| **other == code).count();
        anstream::eprintln!(
            "{} played well, {} differ, {} not played",
            count(0),
            count(1),
            count(2)
        );
    }
    Ok(ExitCode::from(codes.into_iter().max().unwrap_or_default()))
}

fn server(arguments: &Arguments) -> Stage {
    let server = match &arguments.url {
        Some(url) => Stage::at(url),
        None => {
            let mongodb_uri = arguments.mongodb_uri.clone().filter(|uri| !uri.is_empty());
            let target = Target::Own { storage: arguments.storage, mongodb_uri };
            Stage { target, ..Stage::own() }
        }
    };
    let Arguments { transport, timeout, quiet, settle, .. } = *arguments;
    Stage { transport, timeout, quiet, settle, ..server }
}

async fn replay(path: &Path, server: &Stage, accept: bool, sort_keys: bool) -> Result<Verdict> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    let script = match Script::parse_bytes(&bytes) {
        Ok(script) => script,
        Err(unreadable) => {
            return Ok(Verdict::Impossible(format!("{}:{unreadable}", path.display())));
        }
    };
    let has_answers = script.has_answers();
    let mut transcript = play(script, server).await.with_context(|| path.display().to_string())?;
    if sort_keys {
        transcript.ignore_order();
    }
    let differences = if has_answers { transcript.differences() } else { Vec::new() };
    Ok(if transcript.stop().is_some() {
        Verdict::Stopped(transcript, differences)
    } else if has_answers && differences.is_empty() {
        Verdict::Same
    } else if accept {
        overwrite(path, &transcript.to_string())
            .with_context(|| format!("write {}", path.display()))?;
        Verdict::Accepted
    } else if has_answers {
        Verdict::Different(transcript, differences)
    } else {
        Verdict::New(transcript)
    })
}

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();

impl Verdict {
    fn name(&self) -> &'static str {
        match self {
            Self::New(_) => "new",
            Self::Same => "same",
            Self::Different(..) => "different",
            Self::Stopped(..) => "stopped",
            Self::Accepted => "accepted",
            Self::Impossible(_) => "impossible",
        }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::New(_) | Self::Same | Self::Accepted => 0,
            Self::Different(..) | Self::Stopped(..) => 1,
            Self::Impossible(_) => 2,
        }
    }

    fn print(&self, path: &Path) {
        let (name, path) = (self.name(), path.display());
        match self {
            Self::New(transcript) => anstream::print!("{transcript}"),
            Self::Same | Self::Accepted => anstream::println!("{GOOD}{name}{GOOD:#} {path}"),
            Self::Different(transcript, differences) | Self::Stopped(transcript, differences) => {
                anstream::println!("{BAD}{name}{BAD:#} {path}");
                for difference in differences {
                    anstream::println!("{path}: {difference}");
                }
                if let Some(stop) = transcript.stop() {
                    anstream::println!("{path}: {stop}");
                }
                let (old, new) = (transcript.expected(), transcript.to_string());
                if !transcript.script().has_answers() {
                    anstream::print!("{new}");
                } else if old != new {
                    anstream::print!("{}", Diff { old: &old, new: &new });
                }
            }
            Self::Impossible(error) => anstream::eprintln!("{BAD}{name}{BAD:#} {error}"),
        }
    }

    fn json(&self, file: &Path) -> Result<String> {
        #[derive(Serialize)]
        struct Report<'a> {
            file: &'a Path,
            outcome: &'a str,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            differences: &'a [Difference],
            #[serde(skip_serializing_if = "Option::is_none")]
            stop: Option<&'a radio_istic::transcript::Stop>,
            #[serde(skip_serializing_if = "Option::is_none")]
            error: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            transcript: Option<String>,
        }

        let (transcript, differences, error) = match self {
            Self::New(transcript) => (Some(transcript), &[][..], None),
            Self::Different(transcript, differences) | Self::Stopped(transcript, differences) => {
                (Some(transcript), &differences[..], None)
            }
            Self::Impossible(error) => (None, &[][..], Some(error.as_str())),
            Self::Same | Self::Accepted => (None, &[][..], None),
        };
        let report = Report {
            file,
            outcome: self.name(),
            differences,
            stop: transcript.and_then(Transcript::stop),
            error,
            transcript: transcript.map(ToString::to_string),
        };
        Ok(serde_json::to_string(&report)?)
    }
}
