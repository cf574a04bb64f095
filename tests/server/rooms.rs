//! The order of the rooms in `src/lib.rs`: no arrow points back up.

use std::path::{Path, PathBuf};

use crate::support::package;

/// A room uses only rooms before it.
const ROOMS: [&str; 19] = [
    "model", "metrics", "storage", "contract", "limits", "tokens", "origins", "config", "net",
    "outlet", "events", "commit", "session", "presence", "delivery", "gateway", "http", "server",
    "tools",
];

fn rust_files(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The rooms that a file's `crate::` paths name, wherever they stand in it.
fn used(source: &str) -> Vec<String> {
    let code: String = source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let mut used = Vec::new();
    for (start, marker) in code.match_indices("crate::") {
        let rest = &code[start + marker.len()..];
        let (paths, listed) = match rest.strip_prefix('{') {
            Some(list) => (outermost(list), usize::MAX),
            None => (rest.to_owned(), 1),
        };
        used.extend(paths.split(',').take(listed).filter_map(|path| {
            let path = path.trim_start();
            let end = path.find(|c: char| !c.is_alphanumeric() && c != '_');
            Some(path[..end.unwrap_or(path.len())].to_owned()).filter(|room| !room.is_empty())
        }));
    }
    used
}

/// The part of a list in braces that stands in no inner braces.
fn outermost(list: &str) -> String {
    let mut depth = 1;
    list.chars()
        .filter(|c| {
            match c {
                '{' if depth > 0 => depth += 1,
                '}' if depth > 0 => depth -= 1,
                _ => {}
            }
            depth == 1 && *c != '}'
        })
        .collect()
}

/// The uses in the wrong order, as `file: room`.
fn violations(place_of: impl Fn(&str) -> Option<usize>) -> (Vec<String>, usize) {
    let source = package("src");
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    let (mut violations, mut arrows) = (Vec::new(), 0);
    for file in files {
        let path = file.strip_prefix(&source).unwrap();
        let room = path.components().next().unwrap().as_os_str().to_str().unwrap();
        let room = room.trim_end_matches(".rs");
        if matches!(room, "lib" | "main" | "commands" | "signals") {
            continue;
        }
        let place = place_of(room).unwrap_or_else(|| panic!("{room} is in no order"));
        for used in used(&std::fs::read_to_string(&file).unwrap()) {
            arrows += 1;
            // Functions and types at the root are the server's.
            let used_place = place_of(&used).or_else(|| place_of("server"));
            if used_place > Some(place) {
                violations.push(format!("{}: {used}", path.display()));
            }
        }
    }
    (violations, arrows)
}

#[test]
fn no_room_uses_one_after_it() {
    let (violations, arrows) = violations(|room| ROOMS.iter().position(|other| *other == room));
    assert!(violations.is_empty(), "{violations:#?}");
    assert!(arrows > 100, "only {arrows} uses were found");
}

#[test]
fn an_arrow_that_points_back_would_be_seen() {
    // With the order reversed, nearly all uses are in the wrong order.
    let (violations, _) = violations(|room| ROOMS.iter().rev().position(|other| *other == room));
    for seen in ["commit/mod.rs: storage", "outlet/mod.rs: net", "events/users.rs: contract"] {
        assert!(violations.iter().any(|violation| violation == seen), "{seen}: {violations:#?}");
    }
}

#[test]
fn the_map_shows_the_order() {
    let map = std::fs::read_to_string(package("src/lib.rs")).unwrap();
    let shown: Vec<_> = map
        .lines()
        .skip_while(|line| !line.contains("```text"))
        .skip(1)
        .take_while(|line| !line.contains("```"))
        .flat_map(|line| line.trim_start_matches("//!").split(','))
        .map(str::trim)
        .filter(|room| !room.is_empty())
        .collect();
    assert_eq!(shown, ROOMS);
}
