//! Opens the log. A new one begins with the founding of the cluster.

use super::DataDir;
use super::error::DiskError;
use crate::config::{Cluster, RaftLog, system_resolver};
use rusd_proto::etcdserverpb::Member;
use rusd_raft::{Bootstrap, Identity, Log, LogConfig, ids};
use rusd_storage::engine::EngineDir;

/// Opens the log, and says whose it is.
pub(super) fn open(
    config: RaftLog,
    name: &str,
    cluster: &Cluster,
    data_dir: &DataDir,
) -> Result<(Log, Identity), DiskError> {
    let RaftLog {
        segment_bytes,
        unsafe_no_fsync,
    } = config;
    let mut log = Log::open(LogConfig {
        fsync: !unsafe_no_fsync,
        segment_bytes,
        ..LogConfig::new(&data_dir.log)
    })?;
    if let Some(identity) = log.identity() {
        return Ok((log, identity));
    }
    // The log is set up before the storage: this one was, and is gone. A damaged storage must not be rebuilt from
    // nothing.
    if !matches!(EngineDir::holds_anything(&data_dir.store), Ok(false)) {
        return Err(DiskError::LostLog {
            store: data_dir.store.clone(),
            log: data_dir.log.clone(),
        });
    }
    let bootstrap = found(name, cluster)?;
    log.bootstrap(&bootstrap)?;
    Ok((log, bootstrap.identity))
}

/// The first entries of a cluster of this member alone.
fn found(name: &str, cluster: &Cluster) -> Result<Bootstrap, DiskError> {
    cluster.check_bootstrap(name, &system_resolver)?;
    let peer_urls = cluster.advertise_peer_urls.to_strings();
    let member = ids::member_id(&peer_urls, &cluster.token, None);
    Ok(Bootstrap {
        identity: Identity {
            cluster: ids::cluster_id(&[member]),
            member,
        },
        members: vec![Member {
            id: member.0,
            name: name.to_owned(),
            peer_ur_ls: peer_urls,
            ..Member::default()
        }],
    })
}
