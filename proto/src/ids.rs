//! Identifiers, each a type of its own so that one cannot stand where another belongs.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $format:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self(value)
            }
        }
    };
}

id!(
    /// A lease. 0 means "no lease" on the wire; [`LeaseId::NONE`].
    LeaseId(i64), "{:016x}"
);
id!(
    /// A member of the cluster; also its Raft node id. Tools print it in hexadecimal.
    MemberId(u64), "{:x}"
);
id!(
    /// The cluster a member belongs to.
    ClusterId(u64), "{:x}"
);
id!(
    /// A Raft term.
    Term(u64), "{}"
);
id!(
    /// The position of an entry in the Raft log. The first entry has index 1.
    Index(u64), "{}"
);
id!(
    /// What clients call a revision: the number of a transaction that changed keys. An empty store is at 1, and the
    /// first change makes 2.
    Revision(i64), "{}"
);
id!(
    /// The header id of a proposal: unique by member, incarnation and counter (see `request`).
    RequestId(u64), "{:x}"
);

impl Revision {
    /// The revision after this one.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The revision before this one: what a transaction at this one found.
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl LeaseId {
    /// "No lease attached".
    pub const NONE: LeaseId = LeaseId(0);

    /// Whether this names a lease at all.
    pub fn is_some(self) -> bool {
        self != Self::NONE
    }
}
