//! Medians and ratios: printed, and kept in a file.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use crate::{
    plot,
    scenario::{CONFIRMED, CPU, Figures},
    server::Kind,
};

#[derive(Default)]
pub struct Report {
    machine: Value,
    scenarios: Vec<Value>,
    started_in: Option<f64>,
}

impl Report {
    pub fn machine(&mut self, syncs: f64) {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let cpu = model.map_or("unknown", |(_, name)| name);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        println!("{cores} × {cpu}; fdatasync {syncs:.0}/s\n");
        self.machine = json!({ "cpu": cpu, "cores": cores, "fdatasync": syncs });
    }

    /// Adds the results of the rounds for each server.
    pub fn add<'a>(
        &mut self,
        scenario: &str,
        runs: impl Iterator<Item = (&'a Kind, Vec<Figures>)>,
    ) {
        let medians: Vec<(&str, Figures)> = runs
            .filter(|(_, runs)| !runs.is_empty())
            .map(|(kind, runs)| (kind.name(), medians(&runs)))
            .collect();
        let Some(columns) = medians.first().map(|(_, figures)| figures.keys().copied()) else {
            return;
        };
        let columns: Vec<_> = columns.collect();
        println!("{scenario}");
        print!("  {:<20}", "");
        columns.iter().for_each(|column| print!("{column:>17}"));
        println!("{:>9}{:>8}", "× rate", "× CPU");
        let peer = medians.iter().find(|(name, _)| *name == Kind::NodeSqlite.name());
        for (name, figures) in &medians {
            print!("  {name:<20}");
            for column in &columns {
                match figures.get(column) {
                    Some(value) if *value >= 100.0 => print!("{value:>17.0}"),
                    Some(value) => print!("{value:>17.2}"),
                    None => print!("{:>17}", ""),
                }
            }
            if let Some((_, peer)) = peer {
                let rate = rate(&columns);
                let ratio = |column: &str| {
                    figures
                        .get(column)
                        .zip(peer.get(column))
                        .map_or(f64::NAN, |(one, other)| one / other)
                };
                print!("{:>9.1}{:>8.2}", ratio(rate), ratio(CPU));
            }
            println!();
        }
        println!();
        let servers: Vec<_> = medians
            .iter()
            .map(|(name, figures)| json!({ "server": name, "figures": figures }))
            .collect();
        self.scenarios
            .push(json!({ "scenario": scenario, "rate": rate(&columns), "servers": servers }));
    }

    pub fn started_on_a_million(&mut self, milliseconds: f64) {
        println!("started on a file with 1,000,000 messages in {milliseconds:.0} ms");
        self.started_in = Some(milliseconds);
    }

    /// Writes the report to `target/`, and draws the pictures if `PLOTS` is set.
    pub fn write(&self) -> Result<()> {
        let report = json!({
            "machine": self.machine,
            "scenarios": self.scenarios,
            "startedOnAMillionMs": self.started_in,
        });
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("load.json");
        std::fs::write(target, serde_json::to_string_pretty(&report)?)?;
        if std::env::var_os("PLOTS").is_some() {
            plot::draw(&report)?;
        }
        Ok(())
    }
}

/// The figure for the amount of work: a rate, where more is better.
fn rate(columns: &[&'static str]) -> &'static str {
    let rates = columns.iter().filter(|column| column.ends_with("/s"));
    rates.min_by_key(|column| **column != CONFIRMED).copied().unwrap_or(CONFIRMED)
}

fn medians(runs: &[Figures]) -> Figures {
    let names = runs[0].keys();
    names
        .map(|name| {
            let mut values: Vec<_> = runs.iter().filter_map(|run| run.get(name).copied()).collect();
            values.sort_by(f64::total_cmp);
            (*name, values[values.len() / 2])
        })
        .collect()
}
