//! rusd: a server of etcd's v3 API.

pub mod cli;
pub mod config;
pub mod logging;
pub mod data_dir;
pub mod http;
pub mod listen;
pub mod process;
pub mod rpc;
