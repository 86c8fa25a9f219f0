//! The documented configuration file, the table of settings and the help text are what the code says.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use rusd::config::{Action, Config, Warning, flags, load, render};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn serve(words: &[&str]) -> (Config, Vec<Warning>) {
    match load(words.iter().map(OsString::from), std::iter::empty()) {
        Ok(Action::Serve(config, warnings)) => (*config, warnings),
        other => panic!("{words:?}: {other:?}"),
    }
}

/// Compares a file of the repository with its view, or writes it when golden files are being updated.
fn same(path: &str, expected: &str) {
    let path = repository(path);
    if std::env::var_os("UPDATE_GOLDENFILES").is_some() {
        fs::write(&path, expected).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "{} differs from the table of settings: run this test with UPDATE_GOLDENFILES=1 and look at the change",
        path.display()
    );
}

#[test]
fn the_documented_file_lists_every_key() {
    same("config/rusd.toml", &render::toml());
    let text = fs::read_to_string(repository("config/rusd.toml")).unwrap();
    for flag in flags::all() {
        let start = format!("{} = ", flag.name);
        assert_eq!(
            text.lines().filter(|line| line.starts_with(&start)).count(),
            1,
            "{}",
            flag.name
        );
    }
}

#[test]
fn the_documented_file_is_the_defaults() {
    let path = repository("config/rusd.toml");
    let with_file = serve(&["--config", path.to_str().unwrap()]);
    assert_eq!(with_file, serve(&[]));
}

#[test]
fn the_table_of_settings_is_up_to_date() {
    same("docs/flags.md", &render::markdown());
}

#[test]
fn f01_help_lists_every_flag() {
    let Ok(Action::PrintHelp(help)) =
        load([OsString::from("--help")].into_iter(), std::iter::empty())
    else {
        panic!("no help");
    };
    for flag in flags::all() {
        assert!(help.contains(&format!("--{} ", flag.name)), "{}", flag.name);
    }
    same("tests/scripts/help.txt", &help);
}

#[test]
fn f01_pr12_version_prints_etcds_four_lines_and_ours() {
    let version = |words: &[&str], env: &[(&str, &str)]| {
        let env = env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        match load(words.iter().map(OsString::from), env) {
            Ok(Action::PrintVersion(text)) => text,
            other => panic!("{other:?}"),
        }
    };
    let text = version(&["--version"], &[]);
    let starts: Vec<&str> = text
        .lines()
        .map(|line| line.split_once(": ").unwrap().0)
        .collect();
    assert_eq!(
        starts,
        [
            "etcd Version",
            "Git SHA",
            "Go Version",
            "Go OS/Arch",
            "rusd Version"
        ]
    );
    assert!(text.starts_with("etcd Version: 3.7.1\n"), "{text}");
    assert!(
        text.ends_with(&format!("rusd Version: {}\n", env!("CARGO_PKG_VERSION"))),
        "{text}"
    );
    assert!(
        version(&["--version", "--report-version=3.6.14"], &[])
            .starts_with("etcd Version: 3.6.14\n")
    );
    assert!(
        version(&["-version"], &[("RUSD_REPORT_VERSION", "3.6.0")])
            .starts_with("etcd Version: 3.6.0\n")
    );
}

#[test]
fn a_file_that_is_missing_or_endless_is_refused_by_name() {
    for path in ["no/such/file.toml", "/dev/zero"] {
        let args = ["--config", path].map(OsString::from);
        let error = load(args.into_iter(), std::iter::empty()).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert!(error.to_string().contains(path), "{error}");
    }
}

#[test]
fn o17_the_summary_is_one_json_object_without_repeated_keys() {
    let (config, _) = serve(&["--name=a\"b", "--cors=http://y:1,http://x:1"]);
    let summary = config.summary();
    let read: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&summary.to_string()).unwrap();
    assert_eq!(read.len(), summary.0.len());
    assert_eq!(read["name"], "a\"b");
    assert_eq!(read["heartbeat-interval"], "100ms");
    assert_eq!(
        read["cors"],
        serde_json::json!(["http://x:1", "http://y:1"])
    );
}
