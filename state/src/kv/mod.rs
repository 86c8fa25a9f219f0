//! Requests on keys: what each of them means, at the state in which it is applied or read.
//!
//! One file per verb. `range`, `txn` (when read-only), `validate` and `quota` are also used by handlers, on
//! published read views and before proposing.

pub mod compare;
pub mod delete;
pub mod put;
pub mod quota;
pub mod range;
pub mod stream;
pub mod txn;
pub mod validate;

use rusd_proto::etcdserverpb as pb;
use rusd_proto::ids::Revision;

/// A header with the revision only; the server fills in the rest.
pub(crate) fn header(revision: Revision) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader {
        revision: revision.0,
        ..pb::ResponseHeader::default()
    })
}
