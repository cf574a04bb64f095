//! Pictures of a run: the throughput of each server, and its cost, as the load grows.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use serde_json::Value;

/// The scenarios of a picture, by the beginnings of their names.
const PICTURES: [(&str, &str, &str, &str); 4] = [
    ("pairs.svg", "Messages confirmed a second, pairs with 8 in flight", "pairs of", "8 in flight"),
    ("room.svg", "Deliveries a second, one writes to the room", "room of", "one writes"),
    ("logins.svg", "Logins a second, everybody at once", "logins", ""),
    (
        "cpu.svg",
        "µs of server CPU for each message, pairs with 1 in flight",
        "pairs of",
        "1 in flight",
    ),
];

pub fn draw(report: &Value) -> Result<()> {
    for (file, title, start, end) in PICTURES {
        let scenarios = report["scenarios"].as_array().into_iter().flatten().filter(|scenario| {
            let name = scenario["scenario"].as_str().unwrap_or_default();
            name.starts_with(start) && name.ends_with(end)
        });
        let scenarios: Vec<&Value> = scenarios.collect();
        let figure = match file {
            "cpu.svg" => "µs CPU each",
            "room.svg" => "delivered/s",
            _ => scenarios.first().and_then(|one| one["rate"].as_str()).unwrap_or_default(),
        };
        picture(file, title, figure, &scenarios).map_err(|error| anyhow!("{file}: {error}"))?;
    }
    Ok(())
}

fn picture(
    file: &str,
    title: &str,
    figure: &str,
    scenarios: &[&Value],
) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let Some(first) = scenarios.first() else { return Ok(()) };
    let servers: Vec<&str> = first["servers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|server| server["server"].as_str())
        .collect();
    let value = |scenario: &Value, server: &str| {
        let all = scenario["servers"].as_array().into_iter().flatten();
        let mut found = all.filter(|one| one["server"] == server);
        found.next().and_then(|one| one["figures"][figure].as_f64())
    };
    let highest = scenarios
        .iter()
        .flat_map(|scenario| servers.iter().filter_map(|server| value(scenario, server)))
        .fold(0.0, f64::max);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(file);
    let area = SVGBackend::new(&path, (720, 360)).into_drawing_area();
    area.fill(&WHITE)?;
    let width = servers.len() + 1;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..(scenarios.len() * width) as f64, 0.0..highest * 1.1)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(0)
        .y_label_formatter(&|value| format!("{value:.0}"))
        .draw()?;
    for (index, server) in servers.iter().enumerate() {
        let color = Palette99::pick(index).to_rgba();
        let bars = scenarios.iter().enumerate().filter_map(|(at, scenario)| {
            let left = (at * width + index) as f64 + 0.5;
            let bar = [(left, 0.0), (left + 0.9, value(scenario, server)?)];
            Some(Rectangle::new(bar, color.filled()))
        });
        chart
            .draw_series(bars)?
            .label(*server)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 10, y + 5)], color.filled()));
    }
    let labels = scenarios.iter().enumerate().map(|(at, scenario)| {
        let name = scenario["scenario"].as_str().unwrap_or_default();
        let size: String = name
            .split(',')
            .next()
            .unwrap_or_default()
            .chars()
            .filter(char::is_ascii_digit)
            .collect();
        let size = if size.is_empty() {
            name.chars().filter(char::is_ascii_digit).collect()
        } else {
            size
        };
        let middle = (at * width) as f64 + width as f64 / 2.0;
        Text::new(size, (middle, -highest * 0.02), ("sans-serif", 13))
    });
    chart.draw_series(labels)?;
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    area.present()?;
    Ok(())
}
