//! The wire: etcd's messages and services, its error table, and the ids both are spoken in.
//!
//! The `.proto` files in `etcd/` keep etcd's package names and field numbers. A few message fields are
//! generated as `Bytes` that hold the marshalled message (listed in `build.rs`): `RangeResponse.kvs`,
//! `PutResponse.prev_kv`, `DeleteRangeResponse.prev_kvs`, `WatchResponse.events`, `Event.kv` and
//! `Event.prev_kv`. An empty `Bytes` in a singular one of these means "not set".
//!
//! The rest of what a log entry may hold is here too: membership changes ([`conf_change`]), the member in JSON that is
//! their context ([`member_json`]), and what can be read of a request without decoding it ([`request`], [`kind`]).
//!
//! The gRPC servers are behind the `grpc` feature: storage, state and the actors need only the messages.

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods)]

pub mod conf_change;
pub mod error;
pub mod ids;
pub mod kind;
pub mod member_json;
pub mod request;
pub mod response;

pub use error::{Code, EtcdError};
pub use kind::RequestKind;
pub use response::{ApplyReply, ApplyResult};

/// Generated types of the package `mvccpb`.
#[allow(missing_docs, clippy::all)]
pub mod mvccpb {
    include!(concat!(env!("OUT_DIR"), "/mvccpb.rs"));
}

/// Generated types of the package `authpb`.
#[allow(missing_docs, clippy::all)]
pub mod authpb {
    include!(concat!(env!("OUT_DIR"), "/authpb.rs"));
}

/// Generated types of the package `membershippb`.
#[allow(missing_docs, clippy::all)]
pub mod membershippb {
    include!(concat!(env!("OUT_DIR"), "/membershippb.rs"));
}

/// Generated types of the package `etcdserverpb`.
#[allow(missing_docs, clippy::all)]
pub mod etcdserverpb {
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.rs"));
}

/// The encoded `FileDescriptorSet` of the unmodified `.proto` files, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/etcd.fds"));
