//! What may be named in one place only, so that it can be replaced there.

use crate::tree::{Source, Violation, names};

/// A name that belongs to some files.
struct Border {
    /// The beginning of the name.
    name: &'static str,
    /// Where it may not stand: beginnings of paths.
    outside: &'static [&'static str],
    /// Except here: beginnings of paths, or whole paths.
    home: &'static [&'static str],
    why: &'static str,
}

const ALL: &[&str] = &[
    "src/",
    "proto/src/",
    "storage/src/",
    "state/src/",
    "actors/",
];

#[rustfmt::skip]
const BORDERS: &[Border] = &[
    Border {
        name: "sled",
        outside: ALL,
        home: &["storage/src/engine/sled/"],
        why: "an engine is named by its adapter",
    },
    Border {
        name: "redb",
        outside: ALL,
        home: &["storage/src/engine/redb.rs"],
        why: "an engine is named by its adapter",
    },
    Border { name: "raft_engine", outside: ALL, home: &["actors/raft/src/log/"], why: "the log hides its engine" },
    Border {
        name: "tonic",
        outside: ALL,
        home: &["src/rpc/", "src/server.rs", "proto/src/lib.rs"],
        why: "gRPC is one transport",
    },
    Border { name: "hyper", outside: ALL, home: HTTP, why: "HTTP is a transport" },
    Border { name: "hyper_util", outside: ALL, home: HTTP, why: "HTTP is a transport" },
    Border { name: "http", outside: ALL, home: HTTP, why: "HTTP is a transport" },
    Border { name: "http_body", outside: ALL, home: HTTP, why: "HTTP is a transport" },
    Border { name: "http_body_util", outside: ALL, home: HTTP, why: "HTTP is a transport" },
    Border { name: "tower", outside: ALL, home: HTTP, why: "services are a transport's" },
    Border { name: "actix::Addr", outside: ALL, home: PORTS, why: "actors are known by their ports" },
    Border { name: "actix::Recipient", outside: ALL, home: PORTS, why: "actors are known by their ports" },
    Border {
        name: "actix",
        outside: &["src/", "proto/", "storage/", "state/"],
        home: &[],
        why: "only rooms have actors",
    },
    Border { name: "rusd_raft", outside: &["src/"], home: WIRING, why: "only the node knows concrete actors" },
    Border { name: "rusd_mvcc", outside: &["src/"], home: WIRING, why: "only the node knows concrete actors" },
    Border { name: "rusd_watch", outside: &["src/"], home: WIRING, why: "only the node knows concrete actors" },
    Border { name: "rusd_lease", outside: &["src/"], home: WIRING, why: "only the node knows concrete actors" },
    Border { name: "rusd_compactor", outside: &["src/"], home: WIRING, why: "only the node knows concrete actors" },
    Border { name: "rusd_members", outside: &["src/"], home: WIRING, why: "only the node knows concrete actors" },
];

const HTTP: &[&str] = &["src/rpc/", "src/http/", "src/listen/", "src/server.rs"];
const PORTS: &[&str] = &["actors/messages/src/transport/"];
/// The disk opens the log and readies the engine for the actors.
const WIRING: &[&str] = &["src/node.rs", "src/node/", "src/disk/"];

/// File, a part of the finding, why.
#[rustfmt::skip]
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("storage/src/engine/mod.rs", "sled::Sled::open", "the adapter, not the crate"),
    ("storage/src/engine/mod.rs", "redb::Redb::open", "the adapter, not the crate"),
];

/// `actor.rs` and `start.rs` of a room are where its actor is made; a port is made of its address.
/// Crates whose names stand for nothing else in the tree, so that `use tonic as t` is seen.
const UNMISTAKABLE: &[&str] = &["tonic", "hyper"];

fn makes_an_actor(path: &str) -> bool {
    path.starts_with("actors/")
        && (path.ends_with("/src/actor.rs") || path.ends_with("/src/start.rs"))
}

/// Names that stand on the wrong side of a border.
pub fn crossings(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    let starts = |list: &[&str]| list.iter().any(|start| source.path.starts_with(start));
    for name in names(source.product()) {
        for border in BORDERS {
            let is_outside = starts(border.outside) && !starts(border.home);
            let is_actor = border.name.starts_with("actix::") && makes_an_actor(&source.path);
            // A word alone may be a variable or a module of ours, unless nothing of ours has that name.
            let is_name = name.segments.len() > 1 || UNMISTAKABLE.contains(&border.name);
            if is_outside && !is_actor && is_name && name.reaches(border.name) {
                found.push(source.at(name.line, format!("{name}: {}", border.why)));
            }
        }
    }
    found
}

#[test]
fn borders_are_kept() {
    let found: Vec<Violation> = crate::sources()
        .iter()
        .filter(|source| !source.is_test())
        .flat_map(crossings)
        .collect();
    crate::assert_only(
        &found,
        EXCEPTIONS.iter().map(|(path, what, _)| (*path, *what)),
    );
}

#[test]
fn a_crossing_is_reported() {
    for (path, text) in [
        ("src/api/kv.rs", "use tonic as t; fn f(_: t::Status) {}"),
        (
            "storage/src/engine/mod.rs",
            "fn f() { ::redb::Database::create(p) }",
        ),
        (
            "storage/src/engine/mod.rs",
            "mod sled; fn f() { ::sled::open(p) }",
        ),
        ("state/src/machine.rs", "use sled::Db;"),
        ("src/api/kv.rs", "use tonic::Status;"),
        (
            "src/api/watch.rs",
            "fn f() -> Result<(), tonic::Status> { g() }",
        ),
        ("src/api/kv.rs", "fn f(r: http::Request<()>) {}"),
        (
            "src/rpc/kv.rs",
            "fn metrics() { rusd_raft::start(a, b) } // metrics",
        ),
        ("src/rpc/kv.rs", "use rusd_watch::{hub, wire};"),
        ("actors/lease/src/timer.rs", "use actix::{Actor, Addr};"),
        ("actors/watch/src/hub.rs", "use actix::*;"),
        (
            "src/node/graph.rs",
            "struct Graph { raft: actix::Addr<Raft> }",
        ),
    ] {
        assert!(
            !crossings(&Source::new(path, text)).is_empty(),
            "not reported: {path}: {text}"
        );
    }
}

#[test]
fn what_stands_at_home_is_not_reported() {
    for (path, text) in [
        ("storage/src/engine/redb.rs", "use redb::Database;"),
        ("src/rpc/kv.rs", "use tonic::Status;"),
        ("src/node/graph.rs", "fn f() { rusd_raft::start(a, b) }"),
        (
            "src/config/model.rs",
            "/// `sled::Db`\nfn f() { \"redb::Database\"; }",
        ),
        (
            "src/api/kv.rs",
            "#[cfg(test)] mod tests { use tonic::Status; }",
        ),
    ] {
        assert_eq!(crossings(&Source::new(path, text)), [], "{path}");
    }
}
