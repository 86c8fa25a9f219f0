//! What the black-box tests share: a real server process, on loopback, in a directory of its own.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs
)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long a server may take to become ready, or to end; generous, since machines are slow at times.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// A server process. Dropping it kills it.
pub struct Server {
    child: Child,
    pub client_url: String,
    pub data_dir: PathBuf,
    lines: mpsc::Receiver<String>,
    pub log: Vec<String>,
}

/// How to start a server.
#[derive(Clone, Default)]
pub struct Options {
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub port: Option<u16>,
}

impl Options {
    pub fn args(args: &[&str]) -> Self {
        Self {
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            ..Self::default()
        }
    }
}

pub fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_rusd")
}

impl Server {
    /// Starts a server and waits until it serves.
    pub fn start(data_dir: &Path, options: &Options) -> Self {
        let mut server = Self::spawn(data_dir, options);
        server.wait_for_log("ready to serve client requests");
        server
    }

    /// Starts a server without waiting.
    pub fn spawn(data_dir: &Path, options: &Options) -> Self {
        let port = options.port.unwrap_or_else(free_port);
        let client_url = format!("http://127.0.0.1:{port}");
        let peer_url = format!("http://127.0.0.1:{}", free_port());
        let mut child = Command::new(binary())
            .args(["--name", "m1", "--data-dir"])
            .arg(data_dir)
            .args([
                "--listen-client-urls",
                &client_url,
                "--advertise-client-urls",
                &client_url,
            ])
            .args([
                "--listen-peer-urls",
                &peer_url,
                "--initial-advertise-peer-urls",
                &peer_url,
            ])
            .args(["--initial-cluster", &format!("m1={peer_url}")])
            .args(&options.args)
            .envs(options.env.iter().cloned())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server's binary starts");
        let stderr = child.stderr.take().unwrap();
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            client_url,
            data_dir: data_dir.to_owned(),
            lines,
            log: Vec::new(),
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reads the log until a line contains `text`.
    pub fn wait_for_log(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.log.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(error) => panic!(
                    "no log line with {text:?} ({error}); the log:\n{}",
                    self.log.join("\n")
                ),
            }
        }
    }

    /// Everything logged until the process ended.
    pub fn rest_of_log(&mut self) -> Vec<String> {
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.log.push(line);
        }
        self.log.clone()
    }

    /// kill -9, and gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        let status = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Waits for the process to end.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "the server does not end; its log:\n{}",
                self.log.join("\n")
            );
            std::thread::yield_now();
        }
    }

    /// SIGTERM, and gone.
    pub fn stop(&mut self) -> ExitStatus {
        self.terminate();
        self.wait()
    }

    pub async fn client(&self) -> etcd_client::Client {
        etcd_client::Client::connect([&self.client_url], None)
            .await
            .unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _already_gone = self.child.wait();
    }
}

/// The directory of the live engine.
pub fn live(data_dir: &Path) -> PathBuf {
    let store = data_dir.join("store");
    let current = fs::read_to_string(store.join("CURRENT")).unwrap();
    store.join(current.trim_end())
}

/// The largest file of an engine: the one with the data.
pub fn data_file(engine_dir: &Path) -> PathBuf {
    let files = fs::read_dir(engine_dir)
        .unwrap()
        .map(|entry| entry.unwrap());
    let files = files.filter(|entry| entry.file_type().unwrap().is_file());
    files
        .max_by_key(|entry| entry.metadata().unwrap().len())
        .unwrap()
        .path()
}
