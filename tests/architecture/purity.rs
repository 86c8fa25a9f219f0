//! Cores are pure: they know no runtime, clock, file, thread, environment, network or metric. Time comes in as a value.
//!
//! Every file of the rooms below is a core or a shell: a new file must choose its side here, and a path that is gone
//! fails.

use crate::tree::{Name, Source, Violation, names};

/// A file, or a folder with everything below it.
const CORES: &[&str] = &[
    "proto/src/",
    "state/src/",
    "storage/src/index/",
    "storage/src/key_range.rs",
    "storage/src/record.rs",
    "storage/src/revision.rs",
    "actors/raft/src/conf_change.rs",
    "actors/raft/src/core/",
    "actors/raft/src/ids.rs",
    "actors/raft/src/limits.rs",
    "actors/raft/src/log/tail.rs",
    "actors/mvcc/src/core/",
    "actors/mvcc/src/engine/core.rs",
    "actors/mvcc/src/events.rs",
    "actors/watch/src/burst.rs",
    "actors/watch/src/catch_up.rs",
    "actors/watch/src/groups.rs",
    "actors/watch/src/hub.rs",
    "actors/watch/src/hub/",
    "actors/watch/src/intervals.rs",
    "actors/watch/src/limits.rs",
    "actors/watch/src/matching.rs",
    "actors/watch/src/placement.rs",
    "actors/watch/src/range.rs",
    "actors/watch/src/requests.rs",
    "actors/watch/src/ring.rs",
    "actors/watch/src/slab.rs",
    "actors/watch/src/stream.rs",
    "actors/watch/src/watcher.rs",
    "actors/lease/src/proposal.rs",
    "actors/lease/src/spread.rs",
    "actors/lease/src/timer.rs",
    "actors/lease/src/timer/",
    "actors/lease/src/waiting.rs",
    "actors/compactor/src/pacing.rs",
    "actors/compactor/src/policy.rs",
    "actors/members/src/proposal.rs",
    "actors/members/src/reconciler.rs",
    "actors/members/src/version.rs",
    "actors/members/src/waiting.rs",
];

/// What is between a core and the world.
const SHELLS: &[&str] = &[
    "actors/raft/src/actor.rs",
    "actors/raft/src/lib.rs",
    "actors/raft/src/log/error.rs",
    "actors/raft/src/log/files.rs",
    "actors/raft/src/log/mod.rs",
    "actors/raft/src/log/segment.rs",
    "actors/raft/src/log/state.rs",
    "actors/raft/src/log/writer.rs",
    "actors/raft/src/metrics.rs",
    "actors/raft/src/start.rs",
    "actors/mvcc/src/actor.rs",
    "actors/mvcc/src/connection.rs",
    "actors/mvcc/src/engine/checkpoint.rs",
    "actors/mvcc/src/engine/copy.rs",
    "actors/mvcc/src/engine/copying.rs",
    "actors/mvcc/src/engine/mod.rs",
    "actors/mvcc/src/engine/persist.rs",
    "actors/mvcc/src/engine/thread.rs",
    "actors/mvcc/src/lib.rs",
    "actors/mvcc/src/metrics.rs",
    "actors/mvcc/src/readers/",
    "actors/mvcc/src/start.rs",
    "actors/watch/src/actor.rs",
    "actors/watch/src/lib.rs",
    "actors/watch/src/metrics.rs",
    "actors/watch/src/start.rs",
    "actors/lease/src/actor.rs",
    "actors/lease/src/lib.rs",
    "actors/lease/src/metrics.rs",
    "actors/lease/src/start.rs",
    "actors/compactor/src/actor.rs",
    "actors/compactor/src/lib.rs",
    "actors/compactor/src/metrics.rs",
    "actors/compactor/src/report.rs",
    "actors/compactor/src/start.rs",
    "actors/members/src/actor.rs",
    "actors/members/src/lib.rs",
    "actors/members/src/metrics.rs",
    "actors/members/src/report.rs",
    "actors/members/src/start.rs",
];

/// In these folders every file is a core or a shell. (Messages are letters and the ways that they travel.)
const CHOSEN: &[&str] = &[
    "actors/raft/src/",
    "actors/mvcc/src/",
    "actors/watch/src/",
    "actors/lease/src/",
    "actors/compactor/src/",
    "actors/members/src/",
];

const FORBIDDEN: &[(&str, &str)] = &[
    ("actix", "a runtime"),
    ("actix_rt", "a runtime"),
    ("tokio", "a runtime"),
    ("futures_util", "a runtime"),
    ("flume", "a queue between threads"),
    ("rand", "chance"),
    ("libc", "the system"),
    ("hyper", "the network"),
    ("socket2", "the network"),
    ("prometheus", "a metric"),
    ("rusd_messages::metrics", "a metric"),
    ("rusd_messages::Clock", "a clock"),
    (
        "rusd_messages::Port",
        "the way of messages: what it tells is an effect",
    ),
    (
        "rusd_messages::Proposer",
        "the way of messages: what it proposes is an effect",
    ),
    ("std::env", "the environment"),
    ("std::fs", "files"),
    ("std::net", "the network"),
    ("std::os", "the system"),
    ("std::process", "the process"),
    ("std::thread", "threads"),
    ("std::time::Instant", "a clock"),
    ("std::time::SystemTime", "a clock"),
    ("std::hash::RandomState", "chance"),
    ("std::collections::hash_map::RandomState", "chance"),
    ("std::sync::mpsc", "a queue between threads"),
];

/// However the module was brought in.
const FORBIDDEN_ANYWHERE: &[(&str, &str)] = &[
    ("Instant", "a clock"),
    ("SystemTime", "a clock"),
    ("fs::File", "files"),
    ("fs::read", "files"),
    ("thread::spawn", "threads"),
    ("thread::sleep", "threads"),
    ("env::var", "the environment"),
    ("include", "another file"),
];

/// File, a part of the finding, why.
const EXCEPTIONS: &[(&str, &str, &str)] =
    &[("proto/src/lib.rs", "include", "the generated messages")];

fn is_in(path: &str, list: &[&str]) -> bool {
    list.iter()
        .any(|entry| *entry == path || (entry.ends_with('/') && path.starts_with(entry)))
}

/// `crate::metrics`, `super::super::metrics::APPLIED`.
fn is_own_metric(name: &Name) -> bool {
    let own = ["crate", "super", "self"];
    let mut segments = name
        .segments
        .iter()
        .skip_while(|segment| own.contains(&segment.as_str()));
    own.contains(&name.segments[0].as_str())
        && segments.next().is_some_and(|first| first == "metrics")
}

/// What a core may not name.
pub fn impurities(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    for name in names(source.product()) {
        if is_own_metric(&name) {
            found.push(source.at(name.line, format!("a core knows a metric: {name}")));
        }
        let by_crate = FORBIDDEN.iter().find(|(path, _)| name.reaches(path));
        let anywhere = FORBIDDEN_ANYWHERE
            .iter()
            .find(|(path, _)| name.contains(path));
        if let Some((_, what)) = by_crate.or(anywhere) {
            found.push(source.at(name.line, format!("a core knows {what}: {name}")));
        }
        if name.segments == ["std"] && source.text.contains("use std as") {
            found.push(source.at(name.line, "std under another name hides what a core knows"));
        }
    }
    found.dedup();
    found
}

/// Files that have chosen no side, and entries of the two lists that name none.
pub fn undecided(paths: &[&str], cores: &[&str], shells: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for path in paths.iter().filter(|path| is_in(path, CHOSEN)) {
        match (is_in(path, cores), is_in(path, shells)) {
            (false, false) => {
                found.push(format!("{path} is listed neither as a core nor as a shell"))
            }
            (true, true) => found.push(format!("{path} is listed as a core and as a shell")),
            _ => {}
        }
    }
    for entry in cores.iter().chain(shells) {
        if !paths.iter().any(|path| is_in(path, &[entry])) {
            found.push(format!("{entry} is listed, but there is no such file"));
        }
    }
    found
}

pub fn is_shell(path: &str) -> bool {
    is_in(path, SHELLS)
}

#[test]
fn cores_are_pure() {
    let found: Vec<Violation> = crate::sources()
        .iter()
        .filter(|source| is_in(&source.path, CORES) && !source.is_test())
        .flat_map(impurities)
        .collect();
    let keys = EXCEPTIONS.iter().map(|(path, what, _)| (*path, *what));
    crate::assert_only(&found, keys);
}

#[test]
fn every_file_of_an_actor_is_a_core_or_a_shell() {
    let sources = crate::sources();
    let paths: Vec<&str> = sources.iter().map(|source| source.path.as_str()).collect();
    assert_eq!(undecided(&paths, CORES, SHELLS), [""; 0]);
}

#[test]
fn an_impure_core_is_reported() {
    for text in [
        "fn f() { let a = std::time::Instant::now(); }",
        "use std::time; fn f() -> u64 { time::Instant::now() }",
        "use std::time::*; fn f() {}",
        "use std::{fmt, fs}; fn f() {}",
        "use std::*; fn f() {}",
        "use std as s; fn f() { s::fs::read(p) }",
        "fn f() { std::thread::spawn(|| {}); }",
        "fn f() { let a = SystemTime::now(); }",
        "fn f() { ::tokio::spawn(g()); }",
        "use actix::{Actor, Context};",
        "fn f() { std::env::var(n) }",
        "fn f() { let s = std::net::TcpStream::connect(a); }",
        "use crate::metrics::APPLIED;",
        "fn f() { super::super::metrics::APPLIED.inc() }",
        "use rusd_messages::{Clock, Tick};",
        "fn f(hub: rusd_messages::Port<Tick>) {}",
        "use rusd_messages::{Index, metrics::counter};",
        "use prometheus::IntGauge;",
        "fn f() { debug!(at = ?std::time::Instant::now()) }",
        "use rand::Rng;",
    ] {
        let found = impurities(&Source::new("actors/x/src/core.rs", text));
        assert!(!found.is_empty(), "not reported: {text}");
    }
}

#[test]
fn a_pure_core_is_not_reported() {
    for text in [
        "use std::time::Duration; use std::fmt; fn f(now_ms: u64) {}",
        "/// Like tokio::spawn, but not std::thread.\nfn f() { \"std::fs\" }",
        "#[cfg(test)] mod tests { use std::fs; }",
        "use rusd_messages::{Index, Term}; fn instant() {}",
    ] {
        assert_eq!(impurities(&Source::new("actors/x/src/core.rs", text)), []);
    }
}

#[test]
fn a_file_that_has_not_chosen_is_reported() {
    let paths = ["actors/raft/src/new.rs", "actors/raft/src/core/mod.rs"];
    let found = undecided(
        &paths,
        &["actors/raft/src/core/", "actors/raft/src/gone.rs"],
        &[],
    );
    assert_eq!(
        found,
        [
            "actors/raft/src/new.rs is listed neither as a core nor as a shell",
            "actors/raft/src/gone.rs is listed, but there is no such file",
        ]
    );
}
