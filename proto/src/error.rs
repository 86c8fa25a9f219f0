//! The errors a client of etcd can see: gRPC code and text, both exact, because the Go client matches on
//! the text and most others on the code.

use thiserror::Error;

/// gRPC status codes, by number.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Code {
    Ok = 0,
    Canceled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

macro_rules! etcd_errors {
    ($($(#[$doc:meta])* $name:ident = $code:ident, $text:literal;)*) => {
        /// An error that is a reply: the same request gives the same error on every member.
        #[derive(Clone, Debug, PartialEq, Eq, Hash, Error)]
        pub enum EtcdError {
            $($(#[$doc])* #[error($text)] $name,)*
            /// Built in a later step: the text names what was asked for.
            #[error("etcdserver: {0}")]
            Unimplemented(String),
            /// Defragmentation was given up; the text says why.
            #[error("etcdserver: cannot defragment: {0}")]
            Defragment(String),
            /// A RangeStream option that the streaming form does not have (text without prefix).
            #[error("{0}")]
            StreamUnsupported(&'static str),
            /// A message of the client's own that its transport could not read, in the transport's words.
            #[error("{text}")]
            Unreadable {
                /// The transport's code.
                code: Code,
                /// Its text.
                text: String,
            },
        }

        impl EtcdError {
            /// The gRPC code that goes with the text.
            pub fn code(&self) -> Code {
                match self {
                    $(Self::$name => Code::$code,)*
                    Self::Defragment(_) => Code::Unknown,
                    Self::Unreadable { code, .. } => *code,
                    Self::Unimplemented(_) | Self::StreamUnsupported(_) => Code::Unimplemented,
                }
            }
        }
    };
}

etcd_errors! {
    /// An empty key.
    EmptyKey = InvalidArgument, "etcdserver: key is not provided";
    /// `ignore_value` or `ignore_lease` on a missing key, or a txn op with nothing in it.
    KeyNotFound = InvalidArgument, "etcdserver: key not found";
    /// `ignore_value` together with a value.
    ValueProvided = InvalidArgument, "etcdserver: value is provided";
    /// `ignore_lease` together with a lease.
    LeaseProvided = InvalidArgument, "etcdserver: lease is provided";
    /// More operations than `--max-txn-ops`.
    TooManyOps = InvalidArgument, "etcdserver: too many operations in txn request";
    /// Two writes of one key in one branch of a txn.
    DuplicateKey = InvalidArgument, "etcdserver: duplicate key given in txn request";
    /// Metadata `client-api-version` that is not UTF-8.
    InvalidClientApiVersion = InvalidArgument, "etcdserver: invalid client api version";
    /// A sort order or target outside the enumeration.
    InvalidSortOption = InvalidArgument, "etcdserver: invalid sort option";
    /// A proposal larger than `--max-request-bytes`.
    RequestTooLarge = InvalidArgument, "etcdserver: request is too large";
    /// A revision below the compacted one.
    Compacted = OutOfRange, "etcdserver: mvcc: required revision has been compacted";
    /// A revision above the current one.
    FutureRevision = OutOfRange, "etcdserver: mvcc: required revision is a future revision";
    /// A lease TTL above 9,000,000,000 seconds.
    LeaseTtlTooLarge = OutOfRange, "etcdserver: too large lease TTL";
    /// The quota is used up, or the NOSPACE alarm is raised.
    NoSpace = ResourceExhausted, "etcdserver: mvcc: database space exceeded";
    /// Back-pressure. The code is Unknown on the wire, as etcd's is (E-01).
    TooManyRequests = Unknown, "etcdserver: too many requests";
    /// A lease that does not exist (any more).
    LeaseNotFound = NotFound, "etcdserver: requested lease not found";
    /// A lease id that is taken.
    LeaseExists = FailedPrecondition, "etcdserver: lease already exists";
    /// A member id that is not in the cluster.
    MemberNotFound = NotFound, "etcdserver: member not found";
    /// A member id that is taken.
    MemberIdExists = FailedPrecondition, "etcdserver: member ID already exist";
    /// A peer URL that another member has.
    PeerUrlsExist = FailedPrecondition, "etcdserver: Peer URLs already exists";
    /// Promotion of a member that votes already.
    MemberNotLearner = FailedPrecondition, "etcdserver: can only promote a learner member";
    /// More learners than `--max-learners`.
    TooManyLearners = FailedPrecondition, "etcdserver: too many learner members in cluster";
    /// MoveLeader asked of a member that does not lead.
    NotLeader = FailedPrecondition, "etcdserver: not leader";
    /// MoveLeader to something that cannot lead.
    BadLeaderTransferee = FailedPrecondition, "etcdserver: bad leader transferee";
    /// The cluster version is not decided yet.
    NotCapable = FailedPrecondition, "etcdserver: not capable";
    /// No leader is known, and the call needs one.
    NoLeader = Unavailable, "etcdserver: no leader";
    /// Leadership moved while a read waited for its confirmation.
    LeaderChanged = Unavailable, "etcdserver: leader changed";
    /// The server is shutting down.
    Stopped = Unavailable, "etcdserver: server stopped";
    /// Not committed, or not confirmed, within `ReqTimeout`.
    Timeout = Unavailable, "etcdserver: request timed out";
    /// As [`EtcdError::Timeout`], with an election in between.
    TimeoutLeaderFailure = Unavailable, "etcdserver: request timed out, possibly due to previous leader failure";
    /// As [`EtcdError::Timeout`], without a connection to the leader or a quorum.
    TimeoutConnectionLost = Unavailable, "etcdserver: request timed out, possibly due to connection lost";
    /// A lease call waited too long for the applied index.
    TimeoutWaitApplied = Unavailable, "etcdserver: request timed out, waiting for the applied index took too long";
    /// The CORRUPT alarm is raised.
    Corrupt = DataLoss, "etcdserver: corrupt cluster";
    /// The deadline that the client set has passed (text of gRPC in Go).
    DeadlineExceeded = DeadlineExceeded, "context deadline exceeded";
    /// The client closed its watch stream.
    WatchCanceled = Canceled, "etcdserver: watch canceled";
    /// Lease calls on a member that cannot confirm its leadership.
    NotPrimary = Unknown, "not a primary lessor";
    /// `Downgrade` with an action outside the enumeration.
    UnknownMethod = Unknown, "etcdserver: unknown method";
    /// `Authenticate` while authentication is off.
    AuthNotEnabled = FailedPrecondition, "etcdserver: authentication is not enabled";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e_01_too_many_requests_goes_out_as_unknown() {
        assert_eq!(EtcdError::TooManyRequests.code(), Code::Unknown);
        assert_eq!(
            EtcdError::TooManyRequests.to_string(),
            "etcdserver: too many requests"
        );
    }
}
