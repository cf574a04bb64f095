//! Tells tests which tools there are, so that a test without its tool is reported as ignored.
//!
//! Looks again when `PATH` or a `REQUIRE_…` variable changes, or when this file is touched.

use std::{env, path::Path};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=PATH");
    println!("cargo::rerun-if-env-changed=MONGODB_TEST_URI");
    // The official clients of `tests/js` are installed with `npm ci`.
    let has_node = is_on_path("node") && Path::new("tests/js/node_modules").exists();
    // Without a server, the tests install one with Python.
    let has_mongodb =
        env::var_os("MONGODB_TEST_URI").is_some() || is_on_path("mongod") || is_on_path("python3");
    for (tool, is_there) in [("node", has_node), ("mongodb", has_mongodb)] {
        let variable = format!("REQUIRE_{}", tool.to_uppercase());
        println!("cargo::rerun-if-env-changed={variable}");
        println!("cargo::rustc-check-cfg=cfg({tool})");
        if is_there || env::var_os(variable).is_some() {
            println!("cargo::rustc-cfg={tool}");
        }
    }
}

fn is_on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(program).is_file())
}
