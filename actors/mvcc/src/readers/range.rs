//! Ranges too large for a gRPC thread.

use rusd_messages::reader::LargeRange;
use rusd_state::kv::range::range_on_newest;
use rusd_storage::Views;

pub(super) fn answer(views: &Views, LargeRange { request, reply }: LargeRange) {
    if reply.is_wanted() {
        reply.send(range_on_newest(views, &request));
    }
}
