//! Errors in gRPC's words, and back.

use rusd_proto::EtcdError;
use tonic::{Code, Status};

/// The gRPC status of an error of etcd's.
pub(super) fn status(error: EtcdError) -> Status {
    Status::new(Code::from_i32(error.code() as i32), error.to_string())
}

/// What tonic says of a client's stream of messages: that the client cancelled it, or why a message could not be read.
pub(super) fn error(status: Status) -> EtcdError {
    use rusd_proto::Code as Etcd;
    let code = match status.code() {
        Code::Cancelled => Etcd::Canceled,
        Code::InvalidArgument => Etcd::InvalidArgument,
        Code::DeadlineExceeded => Etcd::DeadlineExceeded,
        Code::PermissionDenied => Etcd::PermissionDenied,
        Code::ResourceExhausted => Etcd::ResourceExhausted,
        Code::OutOfRange => Etcd::OutOfRange,
        Code::Unimplemented => Etcd::Unimplemented,
        Code::Internal => Etcd::Internal,
        Code::Unavailable => Etcd::Unavailable,
        Code::DataLoss => Etcd::DataLoss,
        // tonic has no other code for what it reads.
        _ => Etcd::Unknown,
    };
    EtcdError::Unreadable {
        code,
        text: status.message().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tonic_says_of_a_message_goes_back_as_it_was() {
        let said = Status::internal("failed to decode Protobuf message");
        let back = status(error(said));
        assert_eq!(
            (back.code(), back.message()),
            (Code::Internal, "failed to decode Protobuf message")
        );
    }
}
