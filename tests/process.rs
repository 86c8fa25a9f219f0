//! The process as scripts drive it: start, restart, signals, and every way in which it refuses to start.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use etcd_client::{GetOptions, PutOptions};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use support::{Options, Server, binary, free_port};

const SIGTERM: i32 = 15;

fn json_lines(log: &[String]) -> Vec<serde_json::Value> {
    log.iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// Starts a server that is expected to give up; returns its exit code and everything it logged.
fn refused(data_dir: &Path, options: &Options) -> (Option<i32>, String) {
    let mut server = Server::spawn(data_dir, options);
    let log = server.rest_of_log().join("\n");
    let status = server.wait();
    (status.code(), log)
}

#[tokio::test]
async fn pr_04_pr_05_pr_06_a_clean_life() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    let mut server = Server::start(&data_dir, &Options::default());
    let mut client = server.client().await;
    client.put("k", "v", None).await.unwrap();
    let term = client.status().await.unwrap().raft_term();
    assert_eq!(
        fs::metadata(&data_dir).unwrap().permissions().mode() & 0o777,
        0o700,
        "PR-11"
    );
    server.terminate();
    let log = json_lines(&server.rest_of_log());
    // The signal's own default action ends the process, so that who started it sees which signal it was.
    assert_eq!(server.wait().signal(), Some(SIGTERM));
    for line in &log {
        for field in ["level", "ts", "caller", "msg"] {
            assert!(line[field].is_string(), "no {field} in {line}");
        }
        let level = line["level"].as_str().unwrap();
        assert!(matches!(level, "info" | "warn" | "debug"), "{line}");
    }
    let ready = log
        .iter()
        .filter(|line| line["msg"] == "ready to serve client requests");
    assert_eq!(ready.count(), 1);

    let mut server = Server::start(&data_dir, &Options::default());
    let mut client = server.client().await;
    let found = client.get("k", None).await.unwrap();
    assert_eq!(found.kvs()[0].value(), b"v");
    assert_eq!(
        client.status().await.unwrap().raft_term(),
        term + 1,
        "exactly one election"
    );
    server.stop();
}

/// `--bootstrap-defrag-threshold-megabytes`.
#[tokio::test]
async fn a_storage_that_has_grown_is_rewritten_at_the_start_if_it_gives_back_enough() {
    const VALUE_BYTES: usize = 64 << 10;
    let directory = tempfile::tempdir().unwrap();
    let threshold = |megabytes: &str| {
        let flag = format!("--bootstrap-defrag-threshold-megabytes={megabytes}");
        Options::args(&["--storage-engine=sled", &flag])
    };
    let mut server = Server::start(directory.path(), &Options::args(&["--storage-engine=sled"]));
    let mut client = server.client().await;
    for _ in 0..80 {
        let value = vec![0xa5; VALUE_BYTES];
        client.put("k", value, None).await.unwrap();
    }
    let compact = etcd_client::CompactionOptions::new().with_physical();
    client.compact(81, Some(compact)).await.unwrap();
    server.stop();

    let mut server = Server::start(directory.path(), &threshold("1000"));
    let log = server.log.join("\n");
    assert!(log.contains("Skipping defragmentation"), "{log}");
    server.stop();

    let mut server = Server::start(directory.path(), &threshold("1"));
    if !server.log.join("\n").contains("finished defragmentation") {
        server.wait_for_log("finished defragmentation");
    }
    let mut client = server.client().await;
    let found = client.get("k", None).await.unwrap();
    assert_eq!(found.kvs()[0].value().len(), VALUE_BYTES);
    server.stop();
}

#[test]
fn pr_11_a_second_process_on_the_same_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &Options::default());
    let (code, log) = refused(directory.path(), &Options::default());
    assert_eq!(code, Some(1));
    assert!(log.contains("in use by another process"), "{log}");
    assert!(log.contains(&server.pid().to_string()), "{log}");
}

#[test]
fn a_directory_of_go_etcd_is_refused_with_the_way_to_import_it() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir_all(directory.path().join("member/wal")).unwrap();
    let (code, log) = refused(directory.path(), &Options::default());
    assert_eq!(code, Some(1));
    assert!(
        log.contains("Go etcd") && log.contains("make-mirror"),
        "{log}"
    );
}

#[test]
fn a_data_directory_that_cannot_be_made_names_the_path() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let (code, log) = refused(&file.join("data"), &Options::default());
    assert_eq!(code, Some(1));
    assert!(
        log.contains(&file.join("data").display().to_string()),
        "{log}"
    );
}

#[test]
fn an_address_in_use_names_the_flag() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let options = Options {
        port: Some(port),
        ..Options::default()
    };
    let (code, log) = refused(directory.path(), &options);
    assert_eq!(code, Some(1));
    assert!(
        log.contains("--listen-client-urls") && log.contains(&port.to_string()),
        "{log}"
    );
}

#[tokio::test]
async fn another_engine_than_the_one_that_wrote_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(
        directory.path(),
        &Options::args(&["--storage-engine", "redb"]),
    );
    server.client().await.put("k", "v", None).await.unwrap();
    server.stop();
    let (code, log) = refused(
        directory.path(),
        &Options::args(&["--storage-engine", "sled"]),
    );
    assert_eq!(code, Some(1));
    assert!(log.contains("redb") && log.contains("sled"), "{log}");
    let server = Server::start(
        directory.path(),
        &Options::args(&["--storage-engine", "redb"]),
    );
    assert_eq!(
        server.client().await.get("k", None).await.unwrap().count(),
        1
    );
}

#[tokio::test]
async fn a_damaged_log_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(directory.path(), &Options::default());
    let mut client = server.client().await;
    for n in 0..200 {
        client
            .put(format!("k{n}"), vec![b'x'; 500], None)
            .await
            .unwrap();
    }
    server.kill();
    // Flip bytes in the middle of what was written.
    let log_dir = directory.path().join("log");
    let segment = fs::read_dir(&log_dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "raftlog"))
        .min()
        .expect("a log segment");
    let mut bytes = fs::read(&segment).unwrap();
    let middle = 40_000;
    for byte in &mut bytes[middle..middle + 64] {
        *byte ^= 0xff;
    }
    fs::write(&segment, &bytes).unwrap();
    let (code, log) = refused(directory.path(), &Options::default());
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains(&log_dir.display().to_string()), "{log}");
    assert_eq!(
        fs::read(&segment).unwrap(),
        bytes,
        "a damaged log is evidence"
    );
}

#[tokio::test]
async fn a_lost_log_is_refused_because_acknowledged_writes_are_lost() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(directory.path(), &Options::default());
    server.client().await.put("k", "v", None).await.unwrap();
    server.stop();
    fs::remove_dir_all(directory.path().join("log")).unwrap();
    let is_refused = || {
        let (code, log) = refused(directory.path(), &Options::default());
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains("acknowledged writes are lost"), "{log}");
    };
    is_refused();
    // Nor is it taken for the beginning of everything when the storage is damaged as well.
    let engine = directory.path().join("store/engine-000001-sled/db");
    fs::write(engine, "garbage").unwrap();
    is_refused();
    // Nor when nothing says which engine it was.
    fs::remove_file(directory.path().join("store/CURRENT")).unwrap();
    is_refused();
}

#[test]
fn f_01_versions_and_usage_errors() {
    let run = |args: &[&str]| {
        Command::new(binary())
            .args(args)
            .env_clear()
            .output()
            .unwrap()
    };
    let version = run(&["--version"]);
    assert!(version.status.success());
    let text = String::from_utf8(version.stdout).unwrap();
    assert!(text.starts_with("etcd Version: 3."), "{text}");
    assert!(text.contains("rusd Version: "), "{text}");
    let unknown = run(&["--no-such-flag"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(
        String::from_utf8(unknown.stderr)
            .unwrap()
            .contains("no-such-flag")
    );
    assert!(run(&["--help"]).status.success());
}

#[test]
fn f_03_a_flag_and_its_variable_together_are_fatal() {
    let output = Command::new(binary())
        .args(["--name", "a"])
        .env("ETCD_NAME", "b")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("ETCD_NAME") && text.contains("--name"),
        "{text}"
    );
}

#[test]
fn the_binary_works_under_the_name_etcd() {
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("etcd");
    std::os::unix::fs::symlink(binary(), &link).unwrap();
    let output = Command::new(&link).arg("--version").output().unwrap();
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .starts_with("etcd Version: 3.")
    );
}

#[tokio::test]
async fn l_11_leases_and_their_keys_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(directory.path(), &Options::default());
    let mut client = server.client().await;
    let lease = client.lease_grant(3600, None).await.unwrap().id();
    let options = PutOptions::new().with_lease(lease);
    client.put("leased", "v", Some(options)).await.unwrap();
    server.kill();
    let server = Server::start(directory.path(), &Options::default());
    let mut client = server.client().await;
    let found = client.get("leased", None).await.unwrap();
    assert_eq!(found.kvs()[0].lease(), lease);
    client.lease_revoke(lease).await.unwrap();
    assert_eq!(
        client
            .get("", Some(GetOptions::new().with_all_keys()))
            .await
            .unwrap()
            .count(),
        0
    );
}

/// The binary has a `sync_file_range` of its own, and storage saw sled's syncs arrive there.
#[cfg(target_os = "linux")]
#[test]
fn the_syncs_of_sled_are_real_ones() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options::args(&["--storage-engine=sled", "--log-level=debug"]);
    let mut server = Server::start(directory.path(), &options);
    let log = server.log.join("\n");
    let line = log
        .lines()
        .find(|line| line.contains("the engine's syncs reach the disk"));
    assert!(
        line.is_some_and(|line| line.contains("\"writes_through\":false")),
        "{log}"
    );
    server.stop();
}
