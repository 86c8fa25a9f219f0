//! Settings of the core, and why it may refuse to start.

use crate::limits;
use raft::Config;
use rusd_messages::{Index, MemberId};
use thiserror::Error;

/// Settings of the core.
#[derive(Clone, Debug)]
pub struct CoreConfig {
    /// The id of this member, by which raft-rs knows it.
    pub member: MemberId,
    /// The index through which the engine has applied the log. 0 for a new one.
    pub applied: Index,
    /// `--heartbeat-interval`: one tick of raft-rs.
    pub heartbeat_ms: u64,
    /// `--election-timeout`, rounded down to ticks, at least two.
    pub election_ms: u64,
    /// `--pre-vote`: whether to ask for votes before raising the term, so that a member that was cut off and comes back
    /// does not depose a leader that works.
    pub pre_vote: bool,
    /// Makes contexts of this start differ from those of an earlier one: its wall-clock time will do.
    pub incarnation: u64,
    /// The feature gate `PriorityRequest`: lease revocations get twice the gap of G-11.
    pub priority_requests: bool,
}

impl CoreConfig {
    /// How long a proposal or a read waits: etcd's `ReqTimeout`.
    pub fn request_timeout_ms(&self) -> u64 {
        5_000 + 2 * self.election_ms
    }
}

/// Why a member cannot go on from what is on its disk.
#[derive(Debug, Error)]
pub enum StartError {
    /// The engine has applied what the log does not have.
    #[error(
        "the store has applied entry {applied} of the log, but the log ends at entry {last}: acknowledged writes are \
         lost, so this member refuses to start. Was its directory replaced or restored from an older copy? Put the log \
         that belongs to the store back, or a backup of the whole data directory"
    )]
    LostEntries {
        /// What the engine has applied.
        applied: u64,
        /// Where the log ends.
        last: u64,
    },
    /// The log no longer has what the engine has yet to apply.
    #[error(
        "the store has applied entry {applied} of the log, but the log begins only after entry {truncated}: the store \
         is older than the log, so this member refuses to start. Put the store that belongs to the log back, or a \
         backup of the whole data directory"
    )]
    StoreTooOld {
        /// What the engine has applied.
        applied: u64,
        /// The last entry that the log no longer has.
        truncated: u64,
    },
    /// The log has not been set up.
    #[error("the log has no members: it has not been set up")]
    NotBootstrapped,
    /// raft-rs refuses the configuration, or cannot read the log.
    #[error("the log and the configuration do not fit together: {0}")]
    Raft(#[from] raft::Error),
}

/// The same for raft-rs.
pub(super) fn raft_config(config: &CoreConfig) -> Config {
    let heartbeat_ms = config.heartbeat_ms.max(1);
    let election_tick =
        usize::try_from(config.election_ms / heartbeat_ms).unwrap_or(usize::MAX / 4);
    Config {
        id: config.member.0,
        election_tick: election_tick.max(2),
        heartbeat_tick: 1,
        applied: config.applied.0,
        max_size_per_msg: limits::MESSAGE_BYTES_MAX,
        max_inflight_msgs: limits::INFLIGHT_MESSAGES_MAX,
        check_quorum: true,
        pre_vote: config.pre_vote,
        // Far above what the core lets in: without any limit raft-rs does not count.
        max_uncommitted_size: u64::MAX / 2,
        ..Config::default()
    }
}
