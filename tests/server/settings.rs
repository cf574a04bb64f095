//! The table of settings, and the files that describe it.

use radio_istic::config::{Setting, Settings};

use crate::support::package;

/// The server accepts and ignores this variable, so no file shows it.
const HIDDEN: &str = "NODE_ENV";

fn shown() -> impl Iterator<Item = &'static Setting> {
    Settings::ALL.iter().filter(|setting| setting.variable != HIDDEN)
}

#[test]
fn the_readme_has_every_setting_with_its_default() {
    let readme = std::fs::read_to_string(package("README.md")).unwrap();
    for Setting { variable, default, .. } in shown() {
        let name = format!("`{variable}`");
        let is_row = |line: &&str| line.split('|').nth(1).is_some_and(|cell| cell.contains(&name));
        let row = readme.lines().find(is_row);
        let row = row.unwrap_or_else(|| panic!("README.md has no row for {variable}"));
        if let Some(default) = default {
            assert!(row.contains(&format!("`{default}`")), "the default of {variable}: {row}");
        }
    }
}

#[test]
fn the_example_of_an_environment_has_every_setting() {
    let example = std::fs::read_to_string(package(".env.example")).unwrap();
    for Setting { variable, default, .. } in shown() {
        let line = example.lines().find(|line| line.starts_with(&format!("# {variable}=")));
        let line = line.unwrap_or_else(|| panic!(".env.example has no {variable}"));
        if let Some(default) = default {
            assert_eq!(line, format!("# {variable}={default}"));
        }
    }
}

#[test]
fn every_variable_has_a_field() {
    for Setting { variable, .. } in Settings::ALL {
        assert!(Settings::default().get_mut(variable).is_some(), "{variable}");
    }
    assert!(Settings::default().get_mut("PATH").is_none());
}
