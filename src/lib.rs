//! rusd: a server of etcd's v3 API.
//!
//! The process is a thin server around a graph of actors: [`server`] binds the listeners and serves,
//! `node` builds and wires the actors, [`rpc`] and [`http`] are what clients talk to, and [`api`] is what they ask.
//! Storage is a library of its own, re-exported as [`storage`] so that the multi-version store can be embedded without
//! a server.

#![deny(unsafe_code)]

pub mod api;
pub mod config;
pub mod disk;
pub mod http;
pub mod listen;
pub mod logging;
mod node;
pub mod process;
pub mod process_metrics;
pub mod rpc;
pub mod server;

pub use rusd_storage as storage;
