//! The rules of the house that the compiler does not keep: who may depend on whom, who may name what.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The names under `[dependencies]` of a crate's manifest.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(manifest)).unwrap();
    let table: toml::Table = text.parse().unwrap();
    table
        .get("dependencies")
        .and_then(|d| d.as_table())
        .map(|d| d.keys().cloned().collect())
        .unwrap_or_default()
}

/// Every Rust file below a folder, with its text.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    fn visit(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                visit(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    let mut found = Vec::new();
    visit(&root().join(folder), &mut found);
    assert!(!found.is_empty(), "no source in {folder}");
    found
}

/// The part of a file before its test module: rules on what code may do are about this part.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap()
}

#[test]
fn crates_depend_only_on_the_rooms_below_them() {
    let allowed: [(&str, &[&str]); 10] = [
        ("proto", &[]),
        ("storage", &["rusd-proto"]),
        ("state", &["rusd-proto", "rusd-storage"]),
        ("actors/messages", &["rusd-proto"]),
        ("actors/raft", &["rusd-proto", "rusd-messages"]),
        (
            "actors/mvcc",
            &["rusd-proto", "rusd-messages", "rusd-state", "rusd-storage"],
        ),
        ("actors/watch", &["rusd-proto", "rusd-messages"]),
        ("actors/lease", &["rusd-proto", "rusd-messages"]),
        ("actors/compactor", &["rusd-proto", "rusd-messages"]),
        ("actors/members", &["rusd-proto", "rusd-messages"]),
    ];
    for (room, allowed) in allowed {
        let ours = dependencies(&format!("{room}/Cargo.toml"))
            .into_iter()
            .filter(|name| name.starts_with("rusd-"));
        for name in ours {
            assert!(allowed.contains(&name.as_str()), "{room} depends on {name}");
        }
    }
}

#[test]
fn storage_and_state_know_no_runtime() {
    for room in ["proto", "storage", "state"] {
        let dependencies = dependencies(&format!("{room}/Cargo.toml"));
        for foreign in ["actix", "actix-rt", "tokio", "hyper"] {
            assert!(
                !dependencies.contains(foreign),
                "{room} depends on {foreign}"
            );
        }
    }
    for room in ["storage", "state"] {
        assert!(
            !dependencies(&format!("{room}/Cargo.toml")).contains("tonic"),
            "{room} depends on tonic"
        );
    }
}

#[test]
fn cores_are_pure() {
    for room in ["raft", "mvcc", "watch", "lease", "compactor", "members"] {
        for (path, text) in sources(&format!("actors/{room}/src")) {
            let in_core = path.file_name().is_some_and(|name| name == "core.rs")
                || path.components().any(|c| c.as_os_str() == "core");
            if !in_core {
                continue;
            }
            for foreign in [
                "actix::",
                "tokio::",
                "Instant::now",
                "SystemTime",
                "std::fs",
                "std::net",
                "std::thread",
            ] {
                assert!(
                    !without_tests(&text).contains(foreign),
                    "{} uses {foreign}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn engines_are_named_in_one_place_each() {
    for (engine, home) in [
        ("sled", "storage/src/engine/sled"),
        ("redb", "storage/src/engine/redb.rs"),
    ] {
        let mut all = sources("storage/src");
        all.extend(sources("state/src"));
        all.extend(sources("actors"));
        all.extend(sources("src"));
        for (path, text) in all {
            let uses = without_tests(&text).lines().any(|line| {
                line.contains(&format!("{engine}::")) && !line.trim_start().starts_with("//")
            });
            let names_the_module = text.contains(&format!("mod {engine};"));
            assert!(
                !uses || path.starts_with(home) || names_the_module,
                "{} uses the crate {engine}",
                path.display()
            );
        }
    }
}

#[test]
fn only_node_wires_concrete_actors() {
    for (path, text) in sources("src") {
        if path.starts_with("src/node")
            || path == Path::new("src/node.rs")
            // It opens the log and readies the engine: before there are actors, for them.
            || path.starts_with("src/disk")
            || path == Path::new("src/lib.rs")
        {
            continue;
        }
        // Their ports, limits and pure parts may be used; the actors themselves are started by the node alone.
        for room in [
            "rusd_raft",
            "rusd_mvcc",
            "rusd_compactor",
            "rusd_members",
            "rusd_watch::Watch",
            "rusd_lease::Lease",
        ] {
            let uses = text.lines().any(|line| {
                line.contains(room)
                    && !line.trim_start().starts_with("//")
                    && !line.contains("metrics")
            });
            assert!(!uses, "{} names {room}", path.display());
        }
    }
}

#[test]
fn files_stay_small_enough_to_read() {
    const LINES_MAX: usize = 900;
    for folder in ["src", "storage/src", "state/src", "actors", "proto/src"] {
        for (path, text) in sources(folder) {
            let lines = text.lines().count();
            assert!(lines <= LINES_MAX, "{} has {lines} lines", path.display());
        }
    }
}

#[test]
fn nothing_waits_by_sleeping_in_the_actors() {
    for folder in ["state/src", "actors"] {
        for (path, text) in sources(folder) {
            assert!(!text.contains("thread::sleep"), "{} sleeps", path.display());
        }
    }
}

#[test]
fn no_flag_is_a_stub() {
    for folder in ["src", "storage/src", "state/src", "actors", "proto/src"] {
        for (path, text) in sources(folder) {
            for word in ["todo!(", "unimplemented!(", "#[ignore"] {
                assert!(!text.contains(word), "{} has {word}", path.display());
            }
        }
    }
}
