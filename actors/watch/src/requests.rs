//! What clients ask for on a stream: create, cancel, progress; and the periodic progress they asked for.

use crate::hub::Hub;
use crate::range::Range;
use crate::stream::NO_WATCH;
use crate::watcher::{State, Watcher};
use rusd_messages::watch::{Content, Response, Seen, StreamId, StreamRequest, WatchRefusal};
use rusd_proto::etcdserverpb::WatchCreateRequest;

impl Hub {
    /// Takes a request of a client.
    pub fn request(&mut self, id: StreamId, request: StreamRequest) {
        // What was committed before comes before the answer.
        self.pass_on();
        let Some(stream) = self.stream(id) else {
            return;
        };
        match request {
            StreamRequest::Create { request, seen } => self.create(stream, &request, seen),
            StreamRequest::Cancel { watch_id } => self.cancel(stream, watch_id),
            StreamRequest::Progress => self.progress(stream),
        }
    }

    fn create(&mut self, stream: u32, request: &WatchCreateRequest, seen: Seen) {
        // The client may know more than the hub has been told yet.
        let revision = self.revision.max(seen.revision);
        let (watch_id, range) = match self.accept(stream, request) {
            Ok(accepted) => accepted,
            Err(refusal) => {
                return self.respond(stream, NO_WATCH, revision, Content::Refused(refusal));
            }
        };
        self.respond(stream, watch_id, revision, Content::Created);
        let compacted = self.compacted.max(seen.compacted_revision);
        if request.start_revision > 0 && request.start_revision < compacted {
            return self.respond_compacted(stream, watch_id, compacted);
        }
        let group = self.groups.join(range);
        let mut watcher = Watcher::new(request, watch_id, stream, group);
        if request.start_revision > 0 {
            watcher.next_revision = request.start_revision;
            watcher.start_revision = request.start_revision;
        } else {
            watcher.next_revision = revision + 1;
            watcher.start_revision = revision;
        }
        self.admit(watcher);
    }

    /// The id and range of a new watch, in etcd's order of checks (W-06, W-04, W-03).
    fn accept(
        &mut self,
        stream: u32,
        request: &WatchCreateRequest,
    ) -> Result<(i64, Range), WatchRefusal> {
        if request.start_revision < 0 {
            return Err(WatchRefusal::NegativeRevision);
        }
        let range =
            Range::from_wire(&request.key, &request.range_end).ok_or(WatchRefusal::EmptyRange)?;
        let id = self.streams[stream].assign_id(request.watch_id);
        Ok((id.ok_or(WatchRefusal::DuplicateId)?, range))
    }

    fn cancel(&mut self, stream: u32, watch_id: i64) {
        let watching = &mut self.streams[stream];
        match watching.watchers.remove(&watch_id) {
            Some(key) => self.forget(key),
            None if watching.lost.remove(&watch_id) => {}
            None => return watching.sink.answer_nothing(),
        }
        self.respond(stream, watch_id, self.revision, Content::Canceled);
    }

    /// Answered only if everything through the hub's revision is on its way on this stream (W-16).
    fn progress(&mut self, stream: u32) {
        let watching = &self.streams[stream];
        let complete = watching.is_synced()
            && watching.lost.is_empty()
            && !watching.watchers.is_empty()
            && watching
                .watchers
                .values()
                .all(|key| self.watchers[*key].start_revision <= self.revision);
        if complete {
            self.respond(stream, NO_WATCH, self.revision, Content::ProgressOfAll);
        } else {
            self.streams[stream].sink.answer_nothing();
        }
    }

    /// Tells the watches whose time has come that nothing happened, if nothing did (W-15). Returns how many streams
    /// it looked through.
    pub(crate) fn tell_progress(&mut self) -> usize {
        let mut told = Vec::new();
        for (index, stream) in self.streams.iter_mut() {
            if self.now_ms >= stream.progress_at_ms {
                let every_ms = stream.progress_every_ms.max(1);
                let missed = (self.now_ms - stream.progress_at_ms) / every_ms;
                stream.progress_at_ms += (missed + 1) * every_ms;
                stream.progress_from = (stream.progress_watchers > 0).then_some(i64::MIN);
            }
            let Some(from) = stream.progress_from.filter(|_| !stream.blocked) else {
                continue;
            };
            stream.progress_from = None;
            for (watch_id, key) in stream.watchers.range(from..) {
                let watcher = &mut self.watchers[*key];
                let due = watcher.progress_notify
                    && watcher.state == State::Synced
                    && watcher.start_revision <= self.revision;
                if std::mem::take(&mut watcher.heard) || !due {
                    continue;
                }
                let response = Response {
                    watch_id: *watch_id,
                    revision: self.revision,
                    content: Content::Progress,
                };
                if stream.sink.offer(response).is_err() {
                    // The rest is told when there is room, so that late ids get their turn.
                    stream.progress_from = Some(*watch_id);
                    stream.blocked = true;
                    break;
                }
            }
            told.push(index);
        }
        let streams = told.len();
        for stream in told {
            self.mark_dirty(stream);
        }
        streams
    }
}
