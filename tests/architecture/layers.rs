//! Who may depend on whom: every table of dependencies, of every target, as cargo itself reads them.

use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;

/// What a crate of the workspace may depend on: all of it, in the table of its kind.
struct Room {
    name: &'static str,
    /// Ours, for the product.
    ours: &'static [&'static str],
    /// Others', for the product.
    foreign: &'static [&'static str],
    /// Ours, for tests only. Others' for tests are in [`FOR_TESTS`].
    ours_for_tests: &'static [&'static str],
}

/// The house, from the ground up.
const ROOMS: &[Room] = &[
    Room {
        name: "rusd-proto",
        ours: &[],
        foreign: &[
            "bytes",
            "prost",
            "serde",
            "serde_json",
            "thiserror",
            "tonic",
            "tonic-prost",
        ],
        ours_for_tests: &[],
    },
    Room {
        name: "rusd-storage",
        ours: &["rusd-proto"],
        foreign: &[
            "arc-swap",
            "bytes",
            "crc32c",
            "fs2",
            "libc",
            "parking_lot",
            "prost",
            "redb",
            "sled",
            "thiserror",
            "tracing",
        ],
        ours_for_tests: &["rusd-kit"],
    },
    Room {
        name: "rusd-state",
        ours: &["rusd-proto", "rusd-storage"],
        foreign: &["bytes", "prost", "thiserror", "tracing"],
        ours_for_tests: &["rusd-kit", "rusd-model"],
    },
    Room {
        name: "rusd-messages",
        ours: &["rusd-proto"],
        foreign: &[
            "actix",
            "bytes",
            "flume",
            "prometheus",
            "thiserror",
            "tokio",
        ],
        ours_for_tests: &[],
    },
    Room {
        name: "rusd-raft",
        ours: &["rusd-messages", "rusd-proto"],
        foreign: &[
            "actix",
            "bytes",
            "crc32fast",
            "flume",
            "prometheus",
            "protobuf",
            "raft",
            "raft-engine",
            "sha1",
            "slog",
            "thiserror",
            "tracing",
        ],
        ours_for_tests: &["rusd-kit"],
    },
    Room {
        name: "rusd-mvcc",
        ours: &["rusd-messages", "rusd-proto", "rusd-state", "rusd-storage"],
        foreign: &[
            "actix",
            "arc-swap",
            "bytes",
            "flume",
            "libc",
            "prometheus",
            "prost",
            "thiserror",
            "tokio",
            "tracing",
        ],
        ours_for_tests: &["rusd-kit"],
    },
    Room {
        name: "rusd-watch",
        ours: &["rusd-messages", "rusd-proto"],
        foreign: &["actix", "bytes", "prometheus", "slab", "tracing"],
        ours_for_tests: &["rusd-kit"],
    },
    Room {
        name: "rusd-lease",
        ours: &["rusd-messages", "rusd-proto"],
        foreign: &["actix", "prometheus", "tracing"],
        ours_for_tests: &["rusd-kit"],
    },
    Room {
        name: "rusd-compactor",
        ours: &["rusd-messages", "rusd-proto"],
        foreign: &["actix", "prometheus", "tracing"],
        ours_for_tests: &["rusd-kit"],
    },
    Room {
        name: "rusd-members",
        ours: &["rusd-messages", "rusd-proto"],
        foreign: &["actix", "prometheus", "tracing"],
        ours_for_tests: &["rusd-kit"],
    },
    Room {
        name: "rusd",
        ours: &[
            "rusd-compactor",
            "rusd-lease",
            "rusd-members",
            "rusd-messages",
            "rusd-mvcc",
            "rusd-proto",
            "rusd-raft",
            "rusd-state",
            "rusd-storage",
            "rusd-watch",
        ],
        foreign: &[
            "actix-rt",
            "arc-swap",
            "bytes",
            "clap",
            "config",
            "flume",
            "futures-core",
            "futures-util",
            "http",
            "http-body",
            "http-body-util",
            "hyper",
            "hyper-util",
            "jiff",
            "libc",
            "mimalloc",
            "prometheus",
            "prost",
            "rand",
            "serde",
            "serde_json",
            "serde_yaml_ng",
            "socket2",
            "thiserror",
            "tokio",
            "tokio-stream",
            "tonic",
            "tonic-health",
            "tonic-reflection",
            "tower",
            "tower-service",
            "tracing",
            "tracing-subscriber",
        ],
        ours_for_tests: &["rusd-kit"],
    },
    Room {
        name: "rusd-kit",
        ours: &[],
        foreign: &["goldenscript"],
        ours_for_tests: &[],
    },
    Room {
        name: "rusd-model",
        ours: &["rusd-proto"],
        foreign: &["bytes", "proptest", "prost"],
        ours_for_tests: &[],
    },
    Room {
        name: "rusd-simulation",
        ours: &[
            "rusd-compactor",
            "rusd-lease",
            "rusd-members",
            "rusd-messages",
            "rusd-model",
            "rusd-mvcc",
            "rusd-proto",
            "rusd-raft",
            "rusd-state",
            "rusd-storage",
            "rusd-watch",
        ],
        foreign: &["bytes", "proptest", "prost", "raft", "rand"],
        ours_for_tests: &[],
    },
];

/// Others' crates that any test or bench may use.
const FOR_TESTS: &[&str] = &[
    "bytes",
    "criterion",
    "goldenscript",
    "proptest",
    "prost",
    "rand",
    "tempfile",
    "tokio",
];

/// Others' crates that the tests of one room use.
const FOR_TESTS_OF: &[(&str, &str)] = &[
    ("rusd", "crc32fast"),
    ("rusd", "etcd-client"),
    ("rusd", "h2"),
    ("rusd", "proc-macro2"),
    ("rusd", "protoc-bin-vendored-linux-aarch_64"),
    ("rusd", "protoc-bin-vendored-linux-x86_64"),
    ("rusd", "protoc-bin-vendored-macos-x86_64"),
    ("rusd", "raft"),
    ("rusd", "toml"),
    ("rusd-raft", "actix-rt"),
];

/// Others' crates that a build script uses.
const FOR_BUILDS_OF: &[(&str, &str)] = &[
    ("rusd-proto", "prost"),
    ("rusd-proto", "prost-types"),
    ("rusd-proto", "protox"),
    ("rusd-proto", "tonic-prost-build"),
];

/// A crate and one of its dependencies, as `cargo metadata` tells them.
#[derive(Clone, Debug)]
struct Dependency {
    of: String,
    on: String,
    /// `normal`, `dev` or `build`, whatever the target.
    kind: String,
}

fn dependencies(metadata: &Value) -> Vec<Dependency> {
    let mut found = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        for dependency in package["dependencies"].as_array().unwrap() {
            found.push(Dependency {
                of: package["name"].as_str().unwrap().to_owned(),
                on: dependency["name"].as_str().unwrap().to_owned(),
                kind: dependency["kind"].as_str().unwrap_or("normal").to_owned(),
            });
        }
    }
    found
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(crate::root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

fn is_allowed(rooms: &[Room], dependency: &Dependency) -> bool {
    let Some(room) = rooms.iter().find(|room| room.name == dependency.of) else {
        return false;
    };
    let on = dependency.on.as_str();
    let pair = (room.name, on);
    match dependency.kind.as_str() {
        "normal" => room.ours.contains(&on) || room.foreign.contains(&on),
        "dev" => {
            room.ours_for_tests.contains(&on)
                || FOR_TESTS.contains(&on)
                || FOR_TESTS_OF.contains(&pair)
        }
        _ => FOR_BUILDS_OF.contains(&pair),
    }
}

/// Dependencies that no row allows, crates without a row, and rows that nothing needs.
fn wrong(rooms: &[Room], packages: &[String], dependencies: &[Dependency]) -> Vec<String> {
    let mut found = Vec::new();
    for package in packages {
        if !rooms.iter().any(|room| room.name == package) {
            found.push(format!("{package} has no row"));
        }
    }
    for dependency in dependencies {
        if !is_allowed(rooms, dependency) {
            let Dependency { of, on, kind } = dependency;
            found.push(format!("{of} may not depend on {on} ({kind})"));
        }
    }
    let is_there = |of: &str, on: &str, kind: &str| {
        let same = |d: &Dependency| d.of == of && d.on == on && d.kind == kind;
        dependencies.iter().any(same)
    };
    for room in rooms {
        let normal = room
            .ours
            .iter()
            .chain(room.foreign)
            .map(|on| (on, "normal"));
        for (on, kind) in normal.chain(room.ours_for_tests.iter().map(|on| (on, "dev"))) {
            if !is_there(room.name, on, kind) {
                found.push(format!(
                    "{} no longer depends on {on} ({kind}): its row says so",
                    room.name
                ));
            }
        }
    }
    found
}

/// Whether any of the sources names a crate.
fn unnamed(dependencies: &[Dependency], named: &dyn Fn(&str, &str) -> bool) -> Vec<String> {
    dependencies
        .iter()
        .filter(|dependency| {
            let pair = (dependency.of.as_str(), dependency.on.as_str());
            !NOT_NAMED.iter().any(|(of, on, _)| (*of, *on) == pair)
        })
        .filter(|dependency| !named(&dependency.of, &dependency.on.replace('-', "_")))
        .map(|dependency| format!("no source of {} names {}", dependency.of, dependency.on))
        .collect()
}

/// Who needs what without naming it in a source, and why.
const NOT_NAMED: &[(&str, &str, &str)] = &[
    (
        "rusd",
        "protoc-bin-vendored-linux-aarch_64",
        "scripts/protoc runs its protoc",
    ),
    (
        "rusd",
        "protoc-bin-vendored-linux-x86_64",
        "scripts/protoc runs its protoc",
    ),
    (
        "rusd",
        "protoc-bin-vendored-macos-x86_64",
        "scripts/protoc runs its protoc",
    ),
    ("rusd-proto", "tonic", "the generated code names it"),
    ("rusd-proto", "tonic-prost", "the generated code names it"),
];

#[test]
fn crates_depend_on_the_rooms_below_them() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let packages: Vec<String> = packages
        .iter()
        .map(|package| package["name"].as_str().unwrap().to_owned())
        .collect();
    let found = wrong(ROOMS, &packages, &dependencies(&metadata));
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn every_dependency_is_named_in_a_source() {
    let metadata = metadata();
    let mut named = BTreeSet::new();
    let folders: Vec<(String, String)> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            let manifest = package["manifest_path"].as_str().unwrap();
            let folder = std::path::Path::new(manifest).parent().unwrap();
            let folder = folder
                .strip_prefix(crate::root())
                .unwrap()
                .to_string_lossy();
            (
                package["name"].as_str().unwrap().to_owned(),
                folder.into_owned(),
            )
        })
        .collect();
    for source in crate::sources() {
        let of = folders
            .iter()
            .filter(|(_, folder)| {
                folder.is_empty() || source.path.starts_with(&format!("{folder}/"))
            })
            .max_by_key(|(_, folder)| folder.len());
        for name in crate::tree::names(source.tokens.clone()) {
            // The seeded fuzz targets belong to the root crate's tests too.
            named.insert((of.unwrap().0.clone(), name.segments[0].clone()));
        }
    }
    let found = unnamed(&dependencies(&metadata), &|of, on| {
        named.contains(&(of.to_owned(), on.to_owned()))
    });
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn a_forbidden_dependency_is_reported_in_whatever_table() {
    let metadata = serde_json::json!({ "packages": [{ "name": "rusd-state", "dependencies": [
        { "name": "rusd-proto", "kind": null, "target": null, "rename": null },
        { "name": "tokio", "kind": null, "target": "cfg(unix)", "rename": null },
        { "name": "rusd-messages", "kind": null, "target": "cfg(unix)", "rename": null },
        { "name": "tonic", "kind": null, "target": null, "rename": "wire" },
        { "name": "rusd-raft", "kind": "dev", "target": null, "rename": null },
        { "name": "cc", "kind": "build", "target": null, "rename": null },
    ] }] });
    let rooms = [Room {
        name: "rusd-state",
        ours: &["rusd-proto"],
        foreign: &["bytes"],
        ours_for_tests: &[],
    }];
    let packages = ["rusd-state".to_owned(), "rusd-new".to_owned()];
    assert_eq!(
        wrong(&rooms, &packages, &dependencies(&metadata)),
        [
            "rusd-new has no row",
            "rusd-state may not depend on tokio (normal)",
            "rusd-state may not depend on rusd-messages (normal)",
            "rusd-state may not depend on tonic (normal)",
            "rusd-state may not depend on rusd-raft (dev)",
            "rusd-state may not depend on cc (build)",
            "rusd-state no longer depends on bytes (normal): its row says so",
        ]
    );
}

#[test]
fn a_dependency_that_nothing_names_is_reported() {
    let dependency = |on: &str| Dependency {
        of: "rusd-mvcc".to_owned(),
        on: on.to_owned(),
        kind: "normal".to_owned(),
    };
    let found = unnamed(
        &[dependency("parking-lot"), dependency("bytes")],
        &|_, on| on == "bytes",
    );
    assert_eq!(found, ["no source of rusd-mvcc names parking-lot"]);
}
