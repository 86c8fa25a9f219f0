//! Compiles the `.proto` files without `protoc`, twice over:
//! the descriptors as they are (for gRPC reflection), and Rust types in which a few
//! sub-messages are replaced by their marshalled bytes. On the wire a `bytes` field and a
//! message field are the same thing, so a stored record is spliced into a reply as it lies
//! in storage, and an event is encoded once however many watch it.

use prost::Message;
use prost_types::field_descriptor_proto::Type;
use std::path::PathBuf;

const FILES: [&str; 5] = [
    "kv.proto",
    "auth.proto",
    "membership.proto",
    "rpc.proto",
    "raft_internal.proto",
];

/// (message, field) pairs whose Rust type is the marshalled message.
const MARSHALLED: [(&str, &str); 6] = [
    ("RangeResponse", "kvs"),
    ("PutResponse", "prev_kv"),
    ("DeleteRangeResponse", "prev_kvs"),
    ("WatchResponse", "events"),
    ("Event", "kv"),
    ("Event", "prev_kv"),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=etcd");
    let mut descriptors = protox::compile(FILES, ["etcd"])?;
    let out_dir = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out_dir.join("etcd.fds"), descriptors.encode_to_vec())?;

    let mut replaced = 0;
    for message in descriptors
        .file
        .iter_mut()
        .flat_map(|f| &mut f.message_type)
    {
        for field in &mut message.field {
            if MARSHALLED.contains(&(message.name.as_deref().unwrap_or(""), field.name())) {
                field.set_type(Type::Bytes);
                field.type_name = None;
                replaced += 1;
            }
        }
    }
    assert_eq!(replaced, MARSHALLED.len(), "a marshalled field is misspelt");

    tonic_prost_build::configure()
        .build_client(false)
        .build_server(std::env::var_os("CARGO_FEATURE_GRPC").is_some())
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
