//! What a proposal asks for, as etcd's metrics name it.

use crate::request::first_request_field;

macro_rules! kinds {
    ($($kind:ident = $field:literal;)*) => {
        /// The kind of a proposal.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)] // Each is the request of its name.
        pub enum RequestKind {
            $($kind,)*
            /// None that is known.
            Unknown,
        }

        impl RequestKind {
            /// How many there are.
            pub const COUNT: usize = Self::Unknown as usize + 1;

            /// Its name in etcd's metrics.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => stringify!($kind),)*
                    Self::Unknown => "unknown",
                }
            }

            fn of_field(field: u32) -> Self {
                match field {
                    $($field => Self::$kind,)*
                    _ => Self::Unknown,
                }
            }
        }
    };
}

kinds! {
    Range = 3;
    Put = 4;
    DeleteRange = 5;
    Txn = 6;
    Compaction = 7;
    LeaseGrant = 8;
    LeaseRevoke = 9;
    Alarm = 10;
    LeaseCheckpoint = 11;
    AuthEnable = 1000;
    AuthDisable = 1011;
    Authenticate = 1012;
    AuthStatus = 1013;
    AuthUserAdd = 1100;
    AuthUserDelete = 1101;
    AuthUserGet = 1102;
    AuthUserChangePassword = 1103;
    AuthUserGrantRole = 1104;
    AuthUserRevokeRole = 1105;
    AuthUserList = 1106;
    AuthRoleList = 1107;
    AuthRoleAdd = 1200;
    AuthRoleDelete = 1201;
    AuthRoleGet = 1202;
    AuthRoleGrantPermission = 1203;
    AuthRoleRevokePermission = 1204;
    ClusterVersionSet = 1300;
    ClusterMemberAttrSet = 1301;
    DowngradeInfoSet = 1302;
    DowngradeVersionTest = 9900;
}

impl RequestKind {
    /// The kind of an encoded proposal: its first field that is a request. In our encoding that is the first of
    /// all, so this looks at a few bytes.
    pub fn of(data: &[u8]) -> Self {
        first_request_field(data).map_or(Self::Unknown, Self::of_field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcdserverpb::{
        CompactionRequest, InternalRaftRequest, PutRequest, RequestHeader, TxnRequest,
    };
    use crate::ids::RequestId;
    use crate::membershippb::ClusterVersionSetRequest;
    use crate::request::encode;
    use prost::Message;

    #[test]
    fn p_13_the_kind_is_the_request_wherever_the_header_stands() {
        let none = InternalRaftRequest::default;
        let requests = [
            (
                "Put",
                InternalRaftRequest {
                    put: Some(PutRequest::default()),
                    ..none()
                },
            ),
            (
                "Txn",
                InternalRaftRequest {
                    txn: Some(TxnRequest::default()),
                    ..none()
                },
            ),
            (
                "Compaction",
                InternalRaftRequest {
                    compaction: Some(CompactionRequest::default()),
                    ..none()
                },
            ),
            (
                "ClusterVersionSet",
                InternalRaftRequest {
                    cluster_version_set: Some(ClusterVersionSetRequest::default()),
                    ..none()
                },
            ),
            ("unknown", none()),
        ];
        let header = InternalRaftRequest {
            id: 7,
            header: Some(RequestHeader {
                id: 9,
                ..RequestHeader::default()
            }),
            ..none()
        }
        .encode_to_vec();
        for (name, request) in requests {
            let request = encode(RequestId(1), request);
            assert_eq!(RequestKind::of(&request).name(), name);
            let behind_a_header = [header.as_slice(), &request].concat();
            assert_eq!(RequestKind::of(&behind_a_header).name(), name);
        }
        assert_eq!(RequestKind::of(&[0xff]), RequestKind::Unknown);
        assert_eq!(RequestKind::of(&[]), RequestKind::Unknown);
    }
}
