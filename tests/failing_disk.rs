//! A disk that fails under the log of a serving member: the process ends with one line that says so, and what was
//! acknowledged is there after a restart.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{Options, Server};

/// Compiles the library that makes calls fail.
fn failing_disk(directory: &Path) -> PathBuf {
    let library = directory.join("failing_disk.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/failing_disk.c");
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .status()
        .expect("there is a C compiler, as Rust links with it");
    assert!(status.success());
    library
}

/// What makes a member notice that its disk has begun to fail.
enum Next {
    Put,
    Stop,
}

/// Runs a member whose disk begins to fail in `call` after a first write, and checks how it ends.
async fn fails_in(call: &str, next: Next) {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    let trigger = directory.path().join("now");
    let library = failing_disk(directory.path());
    let options = Options {
        env: [
            ("LD_PRELOAD", library.to_str().unwrap()),
            ("RUSD_TEST_FAILING_CALL", call),
            ("RUSD_TEST_FAILS_WHEN", trigger.to_str().unwrap()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec(),
        ..Options::default()
    };
    let mut server = Server::start(&data_dir, &options);
    let mut client = server.client().await;
    client.put("kept", "v", None).await.unwrap();
    fs::write(&trigger, "").unwrap();
    match next {
        Next::Put => {
            let put = client.put("lost", "v", None).await;
            assert!(put.is_err(), "acknowledged, and not on disk");
        }
        Next::Stop => server.terminate(),
    }
    let log = server.rest_of_log();
    assert_eq!(server.wait().code(), Some(1), "{}", log.join("\n"));
    let last_words: Vec<_> = log.iter().filter(|line| line.contains("fatal")).collect();
    let [line] = last_words[..] else {
        panic!("not one line: {last_words:#?}");
    };
    for part in [
        "writing the log",
        data_dir.to_str().unwrap(),
        "Input/output error",
        "the health of the disk",
    ] {
        assert!(line.contains(part), "no {part:?} in {line}");
    }
    for line in &log {
        for word in ["panicked", "backtrace", "unwrap"] {
            assert!(!line.contains(word), "{line}");
        }
    }

    fs::remove_file(&trigger).unwrap();
    let mut server = Server::start(&data_dir, &options);
    let mut client = server.client().await;
    let found = client.get("kept", None).await.unwrap();
    assert_eq!(found.kvs()[0].value(), b"v");
    server.stop();
}

#[tokio::test]
async fn a_failed_sync_of_the_log_is_one_line_and_exit_code_1() {
    fails_in("fdatasync", Next::Put).await;
}

#[tokio::test]
async fn a_failed_write_of_the_log_is_one_line_and_exit_code_1() {
    fails_in("pwrite", Next::Put).await;
}

#[tokio::test]
async fn a_failed_sync_while_the_log_is_closed_is_one_line_and_exit_code_1() {
    fails_in("fdatasync", Next::Stop).await;
}
