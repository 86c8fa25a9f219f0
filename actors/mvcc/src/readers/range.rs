//! Ranges too large for a gRPC thread.

use rusd_messages::fatal;
use rusd_messages::reader::LargeRange;
use rusd_proto::EtcdError;
use rusd_state::KvError;
use rusd_state::kv::range::range_on_newest;
use rusd_storage::Views;

pub(super) fn answer(views: &Views, LargeRange { request, reply }: LargeRange) {
    if reply.is_wanted() {
        reply.send(range_on_newest(views, &request).map_err(reply_or_fatal));
    }
}

/// A failure of this member's own ends the process; anything else is a reply.
fn reply_or_fatal(error: KvError) -> EtcdError {
    error
        .into_reply()
        .unwrap_or_else(|failure| fatal("reading keys", &failure))
}
