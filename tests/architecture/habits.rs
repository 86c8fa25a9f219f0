//! What nobody writes here: stubs, tests that are not run, waits by sleeping, panics on what others can cause, unsafe
//! code without need.

use crate::tree::{Source, Violation, calls, names};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// File, a part of the finding, why.
#[rustfmt::skip]
const PANICS: &[(&str, &str, &str)] = &[
    ("actors/messages/src/metrics.rs", ".expect", "a name that is registered twice is a bug"),
    ("actors/raft/src/actor.rs", "panic!", "the state machine's thread has died: its panic is told already"),
    ("actors/raft/src/log/writer.rs", "panic!", "the writer's threads have died: their panics are told already"),
];

/// Where there is unsafe code: each block says why it is sound, which clippy checks.
#[rustfmt::skip]
const UNSAFE: &[(&str, &str, &str)] = &[
    ("actors/mvcc/src/readers/priority.rs", "unsafe", "setpriority of the thread has no safe form"),
    ("src/process/limits.rs", "unsafe", "getrlimit and setrlimit have no safe form"),
    ("src/process/signals.rs", "unsafe", "restoring a signal's default has no safe form"),
    ("src/sled_sync.rs", "unsafe", "sled syncs through a symbol, which the binary defines"),
    ("storage/src/engine/sled/sync.rs", "unsafe", "dup3 has no safe form for the descriptor of another"),
];

/// Crates with unsafe code in some file: they cannot forbid it.
const WITH_UNSAFE: &[&str] = &["src/lib.rs", "actors/mvcc/src/lib.rs", "storage/src/lib.rs"];

/// Code that says it is not finished, and tests that do not run.
pub fn unfinished(source: &Source) -> Vec<Violation> {
    let mut found: Vec<Violation> = calls(source.tokens.clone())
        .into_iter()
        .filter(|call| ["todo!", "unimplemented!"].contains(&call.name.as_str()))
        .map(|call| source.at(call.line, format!("{} is a stub", call.name)))
        .collect();
    ignored(source.tokens.clone(), source, &mut found);
    found
}

/// `#[ignore]`, `#[ignore = ".."]`, also in `#[cfg_attr(.., ignore)]`.
fn ignored(tokens: TokenStream, source: &Source, found: &mut Vec<Violation>) {
    let tokens: Vec<_> = tokens.into_iter().collect();
    for (at, token) in tokens.iter().enumerate() {
        let TokenTree::Group(group) = token else {
            continue;
        };
        let punct = |back: usize| match at.checked_sub(back).and_then(|before| tokens.get(before)) {
            Some(TokenTree::Punct(punct)) => Some(punct.as_char()),
            _ => None,
        };
        let is_attribute =
            punct(1) == Some('#') || (punct(1) == Some('!') && punct(2) == Some('#'));
        if is_attribute
            && names(group.stream())
                .iter()
                .any(|name| name.segments == ["ignore"])
        {
            found.push(source.at(group.span_open().start().line, "the test is not run"));
        }
        ignored(group.stream(), source, found);
    }
}

/// Threads that sleep, in the rooms where time is a value or a message; tests too, as sleeping orders nothing.
pub fn sleeps(source: &Source) -> Vec<Violation> {
    if !source.path.starts_with("actors/") && !source.path.starts_with("state/") {
        return Vec::new();
    }
    names(source.tokens.clone())
        .into_iter()
        .filter(|name| name.contains("thread::sleep") || name.contains("thread::park_timeout"))
        .map(|name| source.at(name.line, format!("{name} waits by sleeping")))
        .collect()
}

/// Panics in the product: a bug may end in one, what a client, a peer, a file or a clock can cause may not.
pub fn panics(source: &Source) -> Vec<Violation> {
    const NAMES: &[&str] = &[
        "panic!",
        "unreachable!",
        ".unwrap",
        ".expect",
        ".unwrap_err",
        ".expect_err",
    ];
    calls(source.product())
        .into_iter()
        .filter(|call| NAMES.contains(&call.name.as_str()))
        .map(|call| source.at(call.line, format!("{} may panic", call.name)))
        .collect()
}

/// Each place with unsafe code.
pub fn unsafe_code(source: &Source) -> Vec<Violation> {
    names(source.tokens.clone())
        .into_iter()
        .filter(|name| name.segments == ["unsafe"] || name.segments == ["no_mangle"])
        .map(|name| source.at(name.line, "unsafe code"))
        .collect()
}

/// The first file of a crate, if it does not forbid unsafe code.
pub fn allows_unsafe(source: &Source) -> Vec<Violation> {
    let is_first = source.path.ends_with("src/lib.rs");
    if is_first && !forbids_unsafe(source) && !WITH_UNSAFE.contains(&source.path.as_str()) {
        return vec![source.at(1, "the crate does not forbid unsafe code")];
    }
    if is_first && forbids_unsafe(source) && WITH_UNSAFE.contains(&source.path.as_str()) {
        return vec![source.at(
            1,
            "the crate is listed as one with unsafe code, but forbids it",
        )];
    }
    Vec::new()
}

fn forbids_unsafe(source: &Source) -> bool {
    source.tokens.clone().into_iter().any(|token| match token {
        TokenTree::Group(group) => {
            let text: String = group.stream().to_string().split_whitespace().collect();
            group.delimiter() == Delimiter::Bracket && text == "forbid(unsafe_code)"
        }
        _ => false,
    })
}

fn is_product(source: &&Source) -> bool {
    !source.is_test() && !source.path.ends_with("build.rs") && !source.path.starts_with("tests/")
}

#[test]
fn nothing_is_unfinished() {
    let found: Vec<Violation> = crate::sources().iter().flat_map(unfinished).collect();
    crate::assert_only(&found, []);
}

#[test]
fn nothing_waits_by_sleeping() {
    let found: Vec<Violation> = crate::sources().iter().flat_map(sleeps).collect();
    crate::assert_only(&found, []);
}

#[test]
fn panics_are_argued() {
    let sources = crate::sources();
    let found: Vec<Violation> = sources.iter().filter(is_product).flat_map(panics).collect();
    crate::assert_only(&found, PANICS.iter().map(|(path, what, _)| (*path, *what)));
}

#[test]
fn unsafe_code_is_argued() {
    let sources = crate::sources();
    let found: Vec<Violation> = sources
        .iter()
        .filter(is_product)
        .flat_map(unsafe_code)
        .collect();
    crate::assert_only(&found, UNSAFE.iter().map(|(path, what, _)| (*path, *what)));
}

#[test]
fn crates_without_unsafe_code_forbid_it() {
    let found: Vec<Violation> = crate::sources()
        .iter()
        .filter(|source| !source.path.starts_with("fuzz/"))
        .flat_map(allows_unsafe)
        .collect();
    crate::assert_only(&found, []);
    for first in WITH_UNSAFE {
        let folder = first.trim_end_matches("lib.rs");
        let needs_it = UNSAFE.iter().any(|(path, ..)| path.starts_with(folder));
        assert!(
            needs_it,
            "{first} is listed as one with unsafe code, but has none"
        );
    }
}

#[test]
fn bad_habits_are_reported() {
    type Rule = fn(&Source) -> Vec<Violation>;
    let cases: &[(Rule, &str, &str)] = &[
        (unfinished, "src/x.rs", "fn f() { todo!() }"),
        (
            unfinished,
            "src/x.rs",
            "fn f() { std::unimplemented!(\"later\") }",
        ),
        (unfinished, "tests/x.rs", "#[test] #[ignore] fn f() {}"),
        (
            unfinished,
            "tests/x.rs",
            "#[test] #[ignore = \"slow\"] fn f() {}",
        ),
        (
            unfinished,
            "tests/x.rs",
            "mod a { #[cfg_attr(unix, ignore)] fn f() {} }",
        ),
        (
            sleeps,
            "actors/x/src/actor.rs",
            "fn f() { std::thread::sleep(d) }",
        ),
        (
            sleeps,
            "actors/x/tests/actor.rs",
            "use std::thread::{self, sleep};",
        ),
        (
            sleeps,
            "state/src/machine.rs",
            "use std::thread; fn f() { thread::sleep(d) }",
        ),
        (panics, "src/x.rs", "fn f() { panic!(\"no\") }"),
        (panics, "src/x.rs", "fn f() { g().unwrap() }"),
        (panics, "src/x.rs", "fn f() { g().expect(\"it is there\") }"),
        (panics, "src/x.rs", "fn f() { g().map(Option::unwrap) }"),
        (panics, "src/x.rs", "fn f() { m!(g().unwrap()) }"),
        (unsafe_code, "src/x.rs", "fn f() { unsafe { g() } }"),
        (
            unsafe_code,
            "src/x.rs",
            "#[unsafe(no_mangle)] extern \"C\" fn f() {}",
        ),
        (
            allows_unsafe,
            "actors/x/src/lib.rs",
            "//! #![forbid(unsafe_code)]\nmod a;",
        ),
    ];
    for (rule, path, text) in cases {
        assert!(
            !rule(&Source::new(path, text)).is_empty(),
            "not reported: {text}"
        );
    }
}

#[test]
fn good_habits_are_not_reported() {
    let text = "#![forbid(unsafe_code)]\n// todo!() unsafe\n\
                fn f() { g().unwrap_or_default(); \"panic!()\"; vec![ignore] }\n\
                #[cfg(test)] mod tests { fn f() { g().unwrap() } }";
    let source = Source::new("actors/x/src/lib.rs", text);
    for rule in [unfinished, sleeps, panics, unsafe_code, allows_unsafe] {
        assert_eq!(rule(&source), []);
    }
}
