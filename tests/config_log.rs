//! The process's one log, as the server sets it up: into a file, with its level changed while it runs.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;

use rusd::config::{LogFormat, LogLevel, LogOutput, LogRotation, Logging};
use rusd::logging;

#[test]
fn o17_the_log_reaches_its_file_and_its_level_can_be_changed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("logs/rusd.log");
    let mut config = Logging {
        level: LogLevel::Info,
        format: LogFormat::Json,
        outputs: vec![LogOutput::File(path.clone())],
        rotation: None,
    };
    let error = logging::init(&config).unwrap_err().to_string();
    assert!(
        error.contains("rusd.log"),
        "a directory that is missing is named: {error}"
    );

    // With rotation the log makes its directory, as etcd's does.
    config.rotation = Some(LogRotation {
        max_size_bytes: 1024 * 1024,
        max_age_days: None,
        max_backups: None,
    });
    let guard = logging::init(&config).unwrap();
    tracing::info!(target: "rusd_test", n = 1, "one");
    tracing::debug!(target: "rusd_test", "not told");
    logging::set_level(LogLevel::Debug);
    tracing::debug!(target: "rusd_test", "two");
    tracing::debug!(target: "library", "not told");
    logging::set_level(LogLevel::Fatal);
    tracing::error!(target: "rusd_test", "not told");
    tracing::error!(target: "rusd_test", fatal = true, "three");
    drop(guard);

    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let told: Vec<(&str, &str)> = lines
        .iter()
        .map(|line| {
            (
                line["level"].as_str().unwrap(),
                line["msg"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [("info", "one"), ("debug", "two"), ("fatal", "three")]
    );
    assert!(
        logging::init(&config)
            .unwrap_err()
            .to_string()
            .contains("already")
    );
}
