//! `radio-istic token`: makes a token for experiments.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use radio_istic::{
    config::{self, Settings},
    model::Id,
};

/// Prints a token for a user, signed with JWT_SECRET, for experiments
#[derive(Args)]
pub struct Arguments {
    /// The user's id
    #[arg(long, value_name = "ID")]
    sub: Id,

    /// The lifetime of the token
    #[arg(long, value_name = "TIME", value_parser = parse, default_value = "24h")]
    lasts: Duration,
}

fn parse(text: &str) -> Result<Duration> {
    let duration: jiff::SignedDuration = text.parse()?;
    Ok(duration.try_into()?)
}

pub fn run(arguments: &Arguments, settings: &Settings) -> Result<()> {
    let tokens = config::tokens(settings)?.context("JWT_SECRET: it is not set")?;
    let token = tokens
        .sign(&arguments.sub, arguments.lasts)
        .context("JWT_PUBLIC_KEY: only who has the private key can sign")?;
    anstream::println!("{token}");
    Ok(())
}
