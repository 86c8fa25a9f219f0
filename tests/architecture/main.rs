//! The rules of the house that the compiler does not keep. One file for each kind of rule; each rule is a function over
//! a source or over the crates' dependencies, and is itself tested with code that breaks it.
//!
//! ```text
//! tree     the sources as tokens: names, calls, functions
//! purity   cores know no runtime, clock, file, thread, environment, network, metric
//! layers   who may depend on whom, from all tables of dependencies
//! borders  what is named in one place only: engines, actors, transports, unsafe
//! size     lines of functions, files and shells; columns
//! habits   no stubs, no sleeping, no panics outside of an argued list
//! ```
//!
//! An exception is a row with its reason; a row that is needed no longer fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod borders;
mod habits;
mod layers;
mod purity;
mod size;
mod tree;

use std::collections::BTreeSet;
use std::path::Path;
use tree::{Source, Violation};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    tree::sources(root())
}

/// Fails for a violation that no exception names (by its file and a part of its text), and for an exception that names
/// none.
fn assert_only<'a>(found: &[Violation], exceptions: impl IntoIterator<Item = (&'a str, &'a str)>) {
    let exceptions: Vec<_> = exceptions.into_iter().collect();
    let mut used = BTreeSet::new();
    let mut wrong = Vec::new();
    for violation in found {
        let excepted = exceptions
            .iter()
            .position(|(path, what)| violation.path == *path && violation.what.contains(what));
        match excepted {
            Some(n) => drop(used.insert(n)),
            None => wrong.push(violation.to_string()),
        }
    }
    for (n, (path, what)) in exceptions.iter().enumerate() {
        if !used.contains(&n) {
            wrong.push(format!(
                "the exception of {path} is needed no longer: {what}"
            ));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
#[should_panic(expected = "needed no longer")]
fn an_exception_that_is_not_needed_fails() {
    assert_only(&[], [("src/x.rs", "long")]);
}

#[test]
#[should_panic(expected = "src/y.rs:3: too long")]
fn an_exception_covers_its_own_file_only() {
    let violation = Violation {
        path: "src/y.rs".to_owned(),
        line: 3,
        what: "too long".to_owned(),
    };
    assert_only(&[violation], [("src/x.rs", "long")]);
}
