//! The marks of a data directory: formats, the names of the live engine and of the checkpoint, the names of
//! directories.

use super::{Case, Outcome, Target};
use rusd::disk::DataDir;
use rusd_storage::engine::{EngineDir, EngineKind, EngineOptions, Replacement};
use std::fs;
use std::path::Path;

/// See the module.
pub const TARGET: Target = Target {
    name: "data_directory",
    corpus,
    run,
    cases: 400,
};

const STORE: &str = "store";

fn options() -> EngineOptions {
    EngineOptions::new(EngineKind::Memory)
}

/// Format of the directory, name of the live engine, format of the engine, name of the engine's directory, name of
/// another directory, name of the checkpoint.
fn corpus() -> Vec<Case> {
    let dir = tempfile::tempdir().unwrap();
    let data = DataDir::open(dir.path(), None).unwrap();
    let store = EngineDir::open(&data.store, &options()).unwrap();
    let engine_dir = store.engine_dir();
    let name = engine_dir.file_name().unwrap().to_str().unwrap();
    let read = |path: &Path| fs::read(path).unwrap();
    let case = vec![
        read(&dir.path().join("FORMAT")),
        read(&data.store.join("CURRENT")),
        read(&engine_dir.join("FORMAT")),
        name.as_bytes().to_vec(),
        b"damaged-000007-sled".to_vec(),
        b"checkpoint-000007-memory index 12 term 3\n".to_vec(),
    ];
    vec![
        case,
        vec![
            read(&dir.path().join("FORMAT")),
            b"engine-000041-memory\n".to_vec(),
            read(&engine_dir.join("FORMAT")),
            b"engine-000041-memory".to_vec(),
            b"checkpoint-000007-memory".to_vec(),
            b"checkpoint-000007-memory index 12 term 3\n".to_vec(),
        ],
    ]
}

/// The part as the name of a directory, if it can be one.
fn name(part: Option<&Vec<u8>>) -> Option<&str> {
    let name = std::str::from_utf8(part?).ok()?;
    let possible = !name.is_empty()
        && name.len() < 200
        && !matches!(name, "." | "..")
        && !name.contains(['/', '\0']);
    possible.then_some(name)
}

fn run(parts: &[Vec<u8>]) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join(STORE);
    fs::create_dir(&store).unwrap();
    let write = |path: &Path, part: usize| {
        if let Some(bytes) = parts.get(part) {
            fs::write(path, bytes).unwrap();
        }
    };
    write(&dir.path().join("FORMAT"), 0);
    write(&store.join("CURRENT"), 1);
    write(&store.join("CHECKPOINT"), 5);
    for name in [name(parts.get(3)), name(parts.get(4))]
        .into_iter()
        .flatten()
    {
        // The file of the live engine's name may be taken by the mark.
        if fs::create_dir_all(store.join(name)).is_ok() {
            write(&store.join(name).join("FORMAT"), 2);
        }
    }
    let data = match DataDir::open(dir.path(), None) {
        Ok(data) => data,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return Outcome::Refused;
        }
    };
    let opened = EngineDir::open(&data.store, &options()).and_then(|engines| {
        // A second engine gets a name of its own.
        let rewrite = engines.begin_rewrite()?;
        engines.switch(rewrite)?.destroy()
    });
    match opened {
        Ok(()) => {
            // What was left behind is as good as what was found.
            EngineDir::open(&data.store, &options()).unwrap();
            Outcome::Accepted
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains(store.to_str().unwrap()), "{text}");
            if error.is_rebuild() {
                let checkpoint = EngineDir::checkpoint_of(&data.store).ok().flatten();
                let replaced = Replacement::begin(&data.store, &options(), checkpoint.as_ref())
                    .and_then(Replacement::switch);
                if replaced.is_ok() {
                    EngineDir::open(&data.store, &options()).unwrap();
                }
            }
            Outcome::Refused
        }
    }
}
