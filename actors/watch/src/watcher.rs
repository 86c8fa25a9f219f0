//! One watch.

use rusd_proto::etcdserverpb::WatchCreateRequest;
use rusd_proto::etcdserverpb::watch_create_request::FilterType;

/// What a watch wants to see of the events of its range. Watchers of one group with the same wants get
/// the same vector of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// Previous records (W-10).
    pub previous: bool,
    /// No puts (W-09).
    pub no_put: bool,
    /// No deletes (W-09).
    pub no_delete: bool,
}

impl Wants {
    /// Whether an event passes the filters.
    pub fn passes(self, deleted: bool) -> bool {
        !(if deleted { self.no_delete } else { self.no_put })
    }
}

/// Where a watcher takes its events from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// From live commits, as they come.
    Synced,
    /// From the ring, as soon as its stream has room.
    Recent,
    /// From pages of history.
    Old,
}

/// A watch. Kept small: there may be many.
#[derive(Debug)]
pub struct Watcher {
    /// Its id on its stream.
    pub watch_id: i64,
    /// Events below this revision are not for it. Exact while unsynced; while synced it lags behind.
    pub next_revision: i64,
    /// No progress is reported below this revision (W-05, W-16).
    pub start_revision: i64,
    /// Index of its stream in the hub.
    pub stream: u32,
    /// Index of the group of its range.
    pub group: u32,
    /// Its place among the synced members of the group.
    pub position: u32,
    /// Its filters, and whether it wants previous records.
    pub wants: Wants,
    /// Where its events come from.
    pub state: State,
    /// Its client takes large responses in pieces (W-14).
    pub fragment: bool,
    /// It is told its progress periodically (W-15).
    pub progress_notify: bool,
    /// It was sent events since the last periodic progress.
    pub heard: bool,
}

impl Watcher {
    /// The watch that a request describes, to begin at `next_revision`.
    pub fn new(request: &WatchCreateRequest, watch_id: i64, stream: u32, group: u32) -> Self {
        let filters = |kind: FilterType| request.filters.contains(&(kind as i32));
        Self {
            watch_id,
            next_revision: 0,
            start_revision: 0,
            stream,
            group,
            position: 0,
            wants: Wants {
                previous: request.prev_kv,
                no_put: filters(FilterType::Noput),
                no_delete: filters(FilterType::Nodelete),
            },
            state: State::Synced,
            fragment: request.fragment,
            progress_notify: request.progress_notify,
            heard: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figure that the crate's documentation states.
    #[test]
    fn a_watcher_is_small() {
        assert!(std::mem::size_of::<Watcher>() <= 48);
    }
}
