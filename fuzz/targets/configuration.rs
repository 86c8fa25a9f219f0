//! The command line, the environment, `rusd.toml` and etcd's YAML.

use super::{Case, Outcome, Target};
use rusd::config::{Action, flags, load_with};
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;

/// See the module.
pub const TARGET: Target = Target {
    name: "configuration",
    corpus,
    run,
    cases: 3_000,
};

/// The first byte of a part says what it is.
const ARGUMENT: u8 = b'a';
const VARIABLE: u8 = b'e';
const FILE: u8 = b'f';

const RUSD_TOML: &str = include_str!("../../config/rusd.toml");
const ETCD_YAML: &str = "\
name: 'one'
data-dir: /tmp/one.etcd
heartbeat-interval: 100
election-timeout: 1000
quota-backend-bytes: 8589934592
listen-client-urls: http://localhost:2379,http://127.0.0.1:22379
advertise-client-urls: http://localhost:2379
initial-cluster: one=http://localhost:2380
initial-cluster-state: 'new'
auto-compaction-mode: periodic
auto-compaction-retention: \"1h\"
grpc-keepalive-min-time: 5000000000
client-transport-security:
  client-cert-auth: false
log-level: debug
log-outputs: [stderr]
feature-gates: StopGRPCServiceOnDefrag=true
";

fn corpus() -> Vec<Case> {
    let part = |kind: u8, text: &str| [&[kind], text.as_bytes()].concat();
    let mut cases = vec![
        Case::new(),
        vec![
            part(ARGUMENT, "--name=one"),
            part(ARGUMENT, "-data-dir"),
            part(ARGUMENT, "/tmp/one"),
            part(
                ARGUMENT,
                "--listen-client-urls=http://127.0.0.1:2379,http://[::1]:1",
            ),
            part(ARGUMENT, "--advertise-client-urls=http://a:1"),
            part(ARGUMENT, "--auto-compaction-retention=5m30s"),
            part(VARIABLE, "ETCD_HEARTBEAT_INTERVAL=50"),
            part(VARIABLE, "RUSD_ELECTION_TIMEOUT=700"),
        ],
        vec![part(ARGUMENT, "--version")],
        vec![part(ARGUMENT, "--config=rusd.toml"), part(FILE, RUSD_TOML)],
        vec![
            part(ARGUMENT, "--config=rusd.toml"),
            part(
                FILE,
                "[member]\nname = \"two\"\nheartbeat-interval = 50\nelection-timeout = 500\n\
                 [clustering]\ninitial-cluster = \"two=http://localhost:2380\"\n",
            ),
        ],
        vec![
            part(ARGUMENT, "--config-file=etcd.yaml"),
            part(FILE, ETCD_YAML),
        ],
    ];
    // Every flag at its default.
    let defaults: Vec<_> = flags::all()
        .filter(|flag| !flag.default.is_empty())
        .map(|flag| vec![part(ARGUMENT, &format!("--{}={}", flag.name, flag.default))])
        .collect();
    cases.extend(
        defaults
            .into_iter()
            .filter(|case| run(case) == Outcome::Accepted),
    );
    cases
}

fn run(parts: &[Vec<u8>]) -> Outcome {
    let mut args = Vec::new();
    let mut env = Vec::new();
    let mut file = None;
    for part in parts {
        match part.split_first() {
            Some((&ARGUMENT, word)) => args.push(OsString::from_vec(word.to_vec())),
            Some((&VARIABLE, text)) => {
                let text = String::from_utf8_lossy(text);
                let (name, value) = text.split_once('=').unwrap_or((&text, ""));
                env.push((name.to_owned(), value.to_owned()));
            }
            Some((&FILE, text)) => file = Some(String::from_utf8_lossy(text).into_owned()),
            _ => {}
        }
    }
    let read = |_: &std::path::Path| {
        file.clone()
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    };
    match load_with(args.into_iter(), env.into_iter(), &read) {
        Ok(Action::Serve(config, warnings)) => {
            assert!(config.raft.election_timeout >= 5 * config.raft.heartbeat_interval);
            assert!(!config.listen.client_urls.is_empty() && !config.logging.outputs.is_empty());
            assert!(
                config
                    .listen
                    .client_urls
                    .iter()
                    .all(|url| url.bind_address().is_ok())
            );
            let _checked = config
                .cluster
                .check_bootstrap(&config.member.name, &|_, _| Vec::new());
            let summary = config.summary().to_string();
            assert!(
                serde_json::from_str::<serde_json::Value>(&summary).is_ok(),
                "{summary}"
            );
            drop(warnings);
            Outcome::Accepted
        }
        Ok(Action::PrintVersion(text) | Action::PrintHelp(text)) => {
            assert!(!text.is_empty());
            Outcome::Accepted
        }
        Err(error) => {
            assert!(matches!(error.exit_code(), 1 | 2) && !error.to_string().is_empty());
            Outcome::Refused
        }
    }
}
