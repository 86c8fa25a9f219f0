//! Whether this member can serve.

use super::Context;
use super::context::reply_or_fatal;
use rusd_proto::EtcdError;
use rusd_proto::etcdserverpb as pb;
use rusd_state::kv::range;

impl Context {
    /// Reads one key of the newest view, as etcd's probes do.
    pub fn serializable_read(&self) -> Result<(), EtcdError> {
        let request = pb::RangeRequest {
            key: bytes::Bytes::from_static(b"a"),
            limit: 1,
            serializable: true,
            ..pb::RangeRequest::default()
        };
        range::range_on_newest(&self.views, &request)
            .map(drop)
            .map_err(reply_or_fatal)
    }
}
