//! What a reader takes in at once: lines of functions, files and shells, columns of lines.

use crate::purity::is_shell;
use crate::tree::{Source, Violation, functions};

const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 700;
const ACTOR_LINES_MAX: usize = 199;
const COLUMNS_MAX: usize = 120;

/// File, a part of the finding, why.
#[rustfmt::skip]
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("actors/mvcc/tests/actor.rs", "fn start", "wires a port to each neighbour"),
    ("actors/raft/benches/log.rs", "fn closed_loop", "one measurement, told in order"),
    ("actors/watch/benches/hub.rs", "fn fan_out", "one measurement, told in order"),
    ("actors/watch/tests/model.rs", "fn perform", "an arm for each operation"),
    ("src/api/testing.rs", "fn with_quota", "wires a port to each neighbour"),
    ("state/tests/scripts.rs", "fn run", "an arm for each command"),
    ("storage/benches/mvcc.rs", "fn mvcc", "one group of measurements"),
    ("storage/tests/scripts.rs", "fn run", "an arm for each command"),
    ("tests/model/src/model.rs", "fn apply", "an arm for each request"),
    ("tests/model/src/model.rs", "fn range", "an arm for each option of a range"),
];

/// Sizes over their limits; test code is held to them too.
pub fn oversized(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    for function in functions(source.tokens.clone()) {
        if function.lines > FUNCTION_LINES_MAX {
            let what = format!(
                "fn {} has {} lines, over {FUNCTION_LINES_MAX}",
                function.name, function.lines
            );
            found.push(source.at(function.line, what));
        }
    }
    let lines = source.text.lines().count();
    let is_actor = is_shell(&source.path) && source.path.ends_with("/actor.rs");
    let max = if is_actor {
        ACTOR_LINES_MAX
    } else {
        FILE_LINES_MAX
    };
    if lines > max {
        found.push(source.at(1, format!("the file has {lines} lines, over {max}")));
    }
    for (line, number) in source.text.lines().zip(1..) {
        let columns = line.chars().count();
        if columns > COLUMNS_MAX {
            found.push(source.at(
                number,
                format!("the line has {columns} columns, over {COLUMNS_MAX}"),
            ));
        }
    }
    found
}

#[test]
fn sizes_are_kept() {
    let found: Vec<Violation> = crate::sources().iter().flat_map(oversized).collect();
    crate::assert_only(
        &found,
        EXCEPTIONS.iter().map(|(path, what, _)| (*path, *what)),
    );
}

#[test]
fn what_is_too_large_is_reported() {
    let statements = |n: usize| "    let _ = 1;\n".repeat(n);
    let cases = [
        (
            "src/x.rs",
            format!("fn f() {{\n{}}}\n", statements(69)),
            "fn f has 71 lines",
        ),
        (
            "tests/x.rs",
            format!("proptest! {{\nfn f() {{\n{}}}\n}}\n", statements(70)),
            "fn f has 72 lines",
        ),
        ("src/x.rs", "use a;\n".repeat(701), "the file has 701 lines"),
        (
            "actors/raft/src/actor.rs",
            "use a;\n".repeat(200),
            "the file has 200 lines, over 199",
        ),
        (
            "benches/x.rs",
            format!("// {}\n", "x".repeat(118)),
            "the line has 121 columns",
        ),
    ];
    for (path, text, what) in cases {
        let found = oversized(&Source::new(path, &text));
        assert!(
            found.iter().any(|v| v.what.contains(what)),
            "{path}: {what}: {found:?}"
        );
    }
    let largest = format!("fn f() {{\n{}}}\n", statements(68));
    assert_eq!(oversized(&Source::new("src/x.rs", &largest)), []);
}
