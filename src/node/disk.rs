//! What a member finds on disk, or founds there: its log, and the storage that the log is replayed into.

use super::NodeError;
use crate::config::{Config, StorageEngine};
use crate::data_dir::DataDir;
use crate::store::{self, LogSpan, Opened};
use rusd_mvcc::{CheckpointPolicy, EngineSetup, PersistPolicy, Progress};
use rusd_raft::{Bootstrap, BootstrapMember, Identity, Log, LogConfig, conf_change, ids};
use rusd_state::StateMachine;
use rusd_storage::Applied as LogPosition;
use rusd_storage::engine::{EngineDir, EngineError, EngineKind, EngineOptions};
use tracing::{info, warn};

/// All of it, open.
pub struct Disk {
    /// The log.
    pub log: Log,
    /// Whose log it is.
    pub identity: Identity,
    /// The state that was found.
    pub machine: StateMachine,
    /// The storage engine, to be written to.
    pub setup: EngineSetup,
    /// What a rewrite of the engine would give back.
    pub reclaimable_bytes: u64,
}

impl Disk {
    /// Opens what there is.
    pub fn open(config: &Config, data_dir: &DataDir) -> Result<Self, NodeError> {
        let (log, identity) = open_log(config, data_dir)?;
        let span = LogSpan {
            begins_after: log.truncated().index,
            ends_at: log.last_index(),
            term: &|index| log.term(index).ok().flatten(),
        };
        let Opened { engines, machine } =
            store::open(&data_dir.store, &engine_options(config), &span)?;
        let (applied, applied_term) = machine.applied();
        info!(
            local_member_id = %identity.member,
            cluster_id = %identity.cluster,
            applied_index = applied.0,
            last_index = log.last_index(),
            storage_engine = engines.engine().name(),
            "restored the member"
        );
        let disk_bytes = engines.engine().stats()?.disk_bytes;
        Ok(Self {
            identity,
            reclaimable_bytes: disk_bytes.saturating_sub(machine.sizes().logical_bytes),
            setup: EngineSetup {
                checkpoints: checkpoints(config, &engines, &log)?,
                engines,
                progress: Progress {
                    applied: LogPosition {
                        index: applied.0,
                        term: applied_term.0,
                    },
                    sizes: machine.sizes(),
                },
                persist: PersistPolicy {
                    bytes: usize::try_from(config.storage.persist_bytes).unwrap_or(usize::MAX),
                    interval: config.storage.persist_interval,
                },
            },
            machine,
            log,
        })
    }
}

/// Opens the log; a new one begins with the founding of the cluster.
fn open_log(config: &Config, data_dir: &DataDir) -> Result<(Log, Identity), NodeError> {
    let mut log = Log::open(LogConfig {
        fsync: !config.raft.unsafe_no_fsync,
        segment_bytes: config.raft.log_segment_bytes,
        ..LogConfig::new(&data_dir.log)
    })?;
    if let Some(identity) = log.identity() {
        return Ok((log, identity));
    }
    // The log is set up before the storage: this one was, and is gone. A damaged storage must not be rebuilt from nothing.
    if !matches!(EngineDir::holds_anything(&data_dir.store), Ok(false)) {
        return Err(NodeError::LostLog {
            store: data_dir.store.clone(),
            log: data_dir.log.clone(),
        });
    }
    config.cluster.check_bootstrap(
        &config.member.name,
        &crate::config::cluster::system_resolver,
    )?;
    let peer_urls = config.cluster.advertise_peer_urls.to_strings();
    let member = ids::member_id(&peer_urls, &config.cluster.token, None);
    let identity = Identity {
        cluster: ids::cluster_id(&[member]),
        member,
    };
    log.bootstrap(&Bootstrap {
        identity,
        members: vec![BootstrapMember {
            id: member,
            context: conf_change::member_json(member, &config.member.name, &peer_urls),
        }],
    })?;
    Ok((log, identity))
}

/// How checkpoints are kept. One that is not wanted any more is removed.
fn checkpoints(
    config: &Config,
    engines: &EngineDir,
    log: &Log,
) -> Result<Option<CheckpointPolicy>, EngineError> {
    let Some(interval) = config.storage.checkpoint_interval else {
        if let Some(removed) = engines.remove_checkpoint()? {
            info!(
                checkpoint = removed.name(),
                "removed the checkpoint, as --checkpoint-interval is 0"
            );
        }
        return Ok(None);
    };
    if let Some(checkpoint) = engines.checkpoint()
        && checkpoint.index < log.truncated().index
    {
        warn!(
            checkpoint = checkpoint.name(),
            index = checkpoint.index,
            log_begins_after = log.truncated().index,
            "the log does not go on from the checkpoint any more; making another"
        );
        engines.remove_checkpoint()?;
    }
    Ok(Some(CheckpointPolicy {
        interval,
        log_is_whole: log.truncated().index == 0,
        kept_bytes: log.kept_bytes(),
    }))
}

fn engine_options(config: &Config) -> EngineOptions {
    let kind = match config.storage.engine {
        StorageEngine::Sled => EngineKind::Sled,
        StorageEngine::Redb => EngineKind::Redb,
    };
    let mut options = EngineOptions::new(kind);
    if let Some(bytes) = config.storage.cache_bytes {
        options.cache_bytes = bytes;
    }
    options
}
