//! The command line.

mod commands;
mod signals;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use commands::{record, replay, serve, token};
use radio_istic::config::{self, Settings};

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A compact real-time chat server that speaks Socket.IO. Without a command, it serves.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    settings: Settings,
}

#[derive(Subcommand)]
enum Command {
    Replay(replay::Arguments),
    Record(record::Arguments),
    Token(token::Arguments),
}

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        eprintln!("radio-istic: {error:#}");
        // Of a replay, 1 means that something differs.
        let is_replay = std::env::args_os().nth(1).is_some_and(|command| command == "replay");
        if is_replay { ExitCode::from(2) } else { ExitCode::FAILURE }
    })
}

fn run() -> Result<ExitCode> {
    config::load_dotenv()?;
    let Cli { command, settings } = Cli::parse();
    match command {
        None => serve::run(&settings).map(|()| ExitCode::SUCCESS),
        Some(Command::Replay(arguments)) => replay::run(arguments),
        Some(Command::Token(arguments)) => {
            token::run(&arguments, &settings).map(|()| ExitCode::SUCCESS)
        }
        Some(Command::Record(arguments)) => record::run(&arguments).map(|()| ExitCode::SUCCESS),
    }
}
