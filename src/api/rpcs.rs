//! The calls there are, under etcd's names. Metrics, logs and transports all name a call by its [`Rpc`].

/// How a call streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallType {
    /// One request, one response.
    Unary,
    /// One request, many responses.
    ServerStream,
    /// Many of both.
    BidiStream,
}

impl CallType {
    /// Its name in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::ServerStream => "server_stream",
            Self::BidiStream => "bidi_stream",
        }
    }
}

macro_rules! rpcs {
    ($($service:ident = $full_name:literal { $($rpc:ident = $name:literal $kind:ident;)* })*) => {
        /// One of etcd's services.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)] // Each is the service of its name.
        pub enum Service {
            $($service,)*
        }

        impl Service {
            /// Its full name, with the package.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$service => $full_name,)*
                }
            }

            /// Whether a service of this full name is one of etcd's.
            pub fn exists(full_name: &str) -> bool {
                matches!(full_name, $($full_name)|*)
            }
        }

        /// One of etcd's calls.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)] // Each is the call of its name.
        pub enum Rpc {
            $($($rpc,)*)*
        }

        impl Rpc {
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// All of them, in the order of their numbers.
            pub const ALL: [Self; [$($(stringify!($rpc),)*)*].len()] = [$($(Self::$rpc,)*)*];

            /// The call at `/service/method`.
            pub fn at(path: &str) -> Option<Self> {
                match path {
                    $($(concat!("/", $full_name, "/", $name) => Some(Self::$rpc),)*)*
                    _ => None,
                }
            }

            /// `/service/method`.
            pub fn path(self) -> &'static str {
                match self {
                    $($(Self::$rpc => concat!("/", $full_name, "/", $name),)*)*
                }
            }

            /// Its name within its service.
            pub fn name(self) -> &'static str {
                match self {
                    $($(Self::$rpc => $name,)*)*
                }
            }

            /// The service it belongs to.
            pub fn service(self) -> Service {
                match self {
                    $($(Self::$rpc => Service::$service,)*)*
                }
            }

            /// How it streams.
            pub fn kind(self) -> CallType {
                match self {
                    $($(Self::$rpc => CallType::$kind,)*)*
                }
            }
        }
    };
}

rpcs! {
    Kv = "etcdserverpb.KV" {
        Range = "Range" Unary;
        RangeStream = "RangeStream" ServerStream;
        Put = "Put" Unary;
        DeleteRange = "DeleteRange" Unary;
        Txn = "Txn" Unary;
        Compact = "Compact" Unary;
    }
    Watch = "etcdserverpb.Watch" {
        Watch = "Watch" BidiStream;
    }
    Lease = "etcdserverpb.Lease" {
        LeaseGrant = "LeaseGrant" Unary;
        LeaseRevoke = "LeaseRevoke" Unary;
        LeaseKeepAlive = "LeaseKeepAlive" BidiStream;
        LeaseTimeToLive = "LeaseTimeToLive" Unary;
        LeaseLeases = "LeaseLeases" Unary;
    }
    Cluster = "etcdserverpb.Cluster" {
        MemberAdd = "MemberAdd" Unary;
        MemberRemove = "MemberRemove" Unary;
        MemberUpdate = "MemberUpdate" Unary;
        MemberList = "MemberList" Unary;
        MemberPromote = "MemberPromote" Unary;
    }
    Maintenance = "etcdserverpb.Maintenance" {
        Alarm = "Alarm" Unary;
        Status = "Status" Unary;
        Defragment = "Defragment" Unary;
        Hash = "Hash" Unary;
        HashKv = "HashKV" Unary;
        Snapshot = "Snapshot" ServerStream;
        MoveLeader = "MoveLeader" Unary;
        Downgrade = "Downgrade" Unary;
    }
    Auth = "etcdserverpb.Auth" {
        AuthEnable = "AuthEnable" Unary;
        AuthDisable = "AuthDisable" Unary;
        AuthStatus = "AuthStatus" Unary;
        Authenticate = "Authenticate" Unary;
        UserAdd = "UserAdd" Unary;
        UserGet = "UserGet" Unary;
        UserList = "UserList" Unary;
        UserDelete = "UserDelete" Unary;
        UserChangePassword = "UserChangePassword" Unary;
        UserGrantRole = "UserGrantRole" Unary;
        UserRevokeRole = "UserRevokeRole" Unary;
        RoleAdd = "RoleAdd" Unary;
        RoleGet = "RoleGet" Unary;
        RoleList = "RoleList" Unary;
        RoleDelete = "RoleDelete" Unary;
        RoleGrantPermission = "RoleGrantPermission" Unary;
        RoleRevokePermission = "RoleRevokePermission" Unary;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_found_by_its_path() {
        for (number, rpc) in Rpc::ALL.into_iter().enumerate() {
            assert_eq!(rpc as usize, number);
            assert_eq!(Rpc::at(rpc.path()), Some(rpc));
            assert!(Service::exists(rpc.service().name()));
        }
        assert_eq!(Rpc::at("/etcdserverpb.KV/"), None);
        assert!(!Service::exists("etcdserverpb.Kv"));
    }
}
