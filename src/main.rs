//! The command line.

mod commands;
mod signals;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use commands::{file, health, migrate, record, replay, serve, token};
use radio_istic::config::{self, Settings};

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A compact real-time chat server that speaks Socket.IO. Without a command, it serves.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Task>,

    #[command(flatten)]
    settings: Settings,
}

#[derive(Subcommand)]
enum Task {
    Replay(replay::Arguments),
    Record(record::Arguments),
    Token(token::Arguments),
    Backup(file::Backup),
    Check(file::Check),
    Export(file::Export),
    Import(file::Import),
    Migrate(migrate::Arguments),
    Health(health::Arguments),
}

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        eprintln!("radio-istic: {error:#}");
        // A replay with a difference exits with 1, so an error exits with 2.
        let is_replay = std::env::args_os().nth(1).is_some_and(|command| command == "replay");
        if is_replay { ExitCode::from(2) } else { ExitCode::FAILURE }
    })
}

fn run() -> Result<ExitCode> {
    config::load_dotenv()?;
    let Cli { command, settings } = Cli::parse();
    let done = match command {
        None => serve::run(&settings),
        Some(Task::Replay(arguments)) => return replay::run(arguments),
        Some(Task::Record(arguments)) => record::run(&arguments),
        Some(Task::Token(arguments)) => token::run(&arguments, &settings),
        Some(Task::Backup(arguments)) => file::back_up(&arguments),
        Some(Task::Check(arguments)) => file::check(&arguments),
        Some(Task::Export(arguments)) => file::export(&arguments),
        Some(Task::Import(arguments)) => file::import(&arguments),
        Some(Task::Migrate(arguments)) => migrate::run(&arguments),
        Some(Task::Health(arguments)) => health::run(&arguments, &settings),
    };
    done.map(|()| ExitCode::SUCCESS)
}
