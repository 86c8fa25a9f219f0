//! The clients of a member: what they ask, and what they make of the answers.

use crate::clock::Micros;
use crate::host::{Event, Host};
use crate::member::Process;
use crate::member::message::{Input, Message};
use crate::network::{MemberNumber, Party};
use crate::watching::Watch;
use proptest::strategy::{BoxedStrategy, Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rusd_messages::lease::{KeepAlive, Remaining, TimeToLive};
use rusd_messages::live_leases::InPlace;
use rusd_messages::raft::ReadIndex;
use rusd_messages::watch::{
    FromStream, OpenStream, Seen, SinkReader, StreamId, StreamRequest, sink,
};
use rusd_messages::{Index, LeaseId, Pending, Reply, RequestId};
use rusd_model::generate;
use rusd_proto::etcdserverpb::request_op::Request;
use rusd_proto::etcdserverpb::watch_create_request::FilterType;
use rusd_proto::etcdserverpb::{self as pb, InternalRaftRequest, ResponseHeader};
use rusd_proto::{ApplyResult, EtcdError};
use rusd_state::kv::{range::range, validate};
use rusd_storage::{At, ReadAt};
use std::collections::BTreeMap;

/// Requests ask for revisions at most this far back.
const REVISIONS_BACK: i64 = 45;
/// What a transaction may have of each (`--max-txn-ops`).
const OPERATIONS_MAX: usize = 128;
/// Streams that are open at a time.
const STREAMS_MAX: usize = 3;

/// What a client asks for.
pub enum Ask {
    Write(Box<InternalRaftRequest>),
    Range(Box<pb::RangeRequest>),
    KeepAlive(i64),
    TimeToLive(i64),
    Hash,
    Defragment,
}

impl Ask {
    /// For the trace.
    pub fn text(&self) -> String {
        match self {
            Self::Write(request) => format!("{request:?}"),
            Self::Range(request) => format!("{request:?}"),
            Self::KeepAlive(lease) => format!("to keep lease {lease} alive"),
            Self::TimeToLive(lease) => format!("what is left of lease {lease}"),
            Self::Hash => "for a hash".to_owned(),
            Self::Defragment => "to defragment".to_owned(),
        }
    }
}

/// How far a request is.
enum Stage {
    Writing(RequestId, Pending<ApplyResult>),
    /// It waits for leadership to be confirmed, to be answered when so much is applied.
    Confirming(Pending<Result<Index, EtcdError>>, Ask, i64),
    Applying(Index, Ask, i64),
    Renewing(i64, Micros, Pending<Result<i64, EtcdError>>),
    Asking(Pending<Result<Option<Remaining>, EtcdError>>),
    Defragmenting(Pending<Result<(), EtcdError>>),
}

/// A client's end of a stream.
struct Stream {
    reader: SinkReader,
    watches: BTreeMap<i64, Watch>,
}

/// See the module.
pub struct Clients {
    member: MemberNumber,
    runner: TestRunner,
    proposals: BoxedStrategy<InternalRaftRequest>,
    ranges: BoxedStrategy<pb::RangeRequest>,
    calls: Vec<Stage>,
    streams: BTreeMap<u64, Stream>,
    /// Watches whose stream broke, to go on with.
    broken: Vec<pb::WatchCreateRequest>,
    next_number: u64,
    /// Requests speak of the first, second or third lease; these are the ids.
    leases: [i64; 3],
    actions_left: u64,
}

impl Clients {
    /// Clients of a member who do so many things.
    pub fn new(member: MemberNumber, host: &mut Host) -> Self {
        let random = TestRng::from_seed(RngAlgorithm::ChaCha, &host.random.seed());
        Self {
            member,
            runner: TestRunner::new_with_rng(Config::default(), random),
            proposals: generate::proposal().boxed(),
            ranges: generate::range().boxed(),
            calls: Vec::new(),
            streams: BTreeMap::new(),
            broken: Vec::new(),
            next_number: 0,
            leases: [1, 2, 3],
            actions_left: host.settings.actions,
        }
    }

    /// Whether they still have things to do.
    pub fn have_more(&self) -> bool {
        self.actions_left > 0
    }

    fn drawn<T: std::fmt::Debug>(runner: &mut TestRunner, from: &BoxedStrategy<T>) -> T {
        from.new_tree(runner).unwrap().current()
    }

    /// The next thing they do, and when they do another.
    pub fn act(&mut self, process: Option<&mut Process>, host: &mut Host) {
        if self.actions_left == 0 {
            return;
        }
        let pause_us = host.random.within(0..host.settings.action_us);
        host.clock.after(pause_us, Event::Clients);
        if let Some(process) = process.filter(|process| process.serves) {
            self.actions_left -= 1;
            self.read_streams(host);
            self.choose(process, host);
        }
    }

    fn choose(&mut self, process: &mut Process, host: &mut Host) {
        let newest = host.checks.model().revision;
        let ask = match host.random.within(0..100) {
            0..50 => match self.write(newest, host) {
                request if is_valid(&request) => Ask::Write(Box::new(request)),
                // It would get an answer before it came to Raft.
                _ => return,
            },
            50..68 => {
                let mut request = Self::drawn(&mut self.runner, &self.ranges);
                rebase(&mut request.revision, newest);
                Ask::Range(Box::new(request))
            }
            68..76 => Ask::KeepAlive(host.random.pick(&self.leases)),
            76..78 => Ask::TimeToLive(host.random.pick(&self.leases)),
            78..80 => Ask::Hash,
            80..82 => Ask::Defragment,
            _ => return self.watch(process, host),
        };
        let link = ((self.member, Party::Clients), (self.member, Party::Clients));
        let now_us = host.now_us();
        let at_us = host.network.arrival_us(now_us, link, &mut host.random);
        let floor = host.checks.acknowledged();
        host.at(at_us, Input::Ask { ask, floor });
    }

    fn write(&mut self, newest: i64, host: &mut Host) -> InternalRaftRequest {
        let mut request = Self::drawn(&mut self.runner, &self.proposals);
        if let Some(grant) = &mut request.lease_grant {
            // An id that was used before might be revoked by whoever meant the lease of before.
            self.next_number += 1;
            self.leases[host.random.size(0..3)] = 3 + self.next_number as i64;
            grant.id = 3 + self.next_number as i64;
            grant.ttl = host.random.within(1..6) as i64;
        }
        if request
            .alarm
            .as_ref()
            .is_some_and(|alarm| alarm.action == 1)
            && host.random.percent(90)
        {
            request.alarm = None;
            request.put = Some(pb::PutRequest {
                key: "a".into(),
                ..Default::default()
            });
        }
        // The timer's business, and ruled out by its own check.
        if request.lease_checkpoint.take().is_some() {
            request.lease_grant = None;
            request.put = Some(pb::PutRequest {
                key: "b".into(),
                ..Default::default()
            });
        }
        if let Some(compaction) = &mut request.compaction {
            rebase(&mut compaction.revision, newest - 10);
            compaction.physical = host.random.percent(40);
        }
        if let Some(revoke) = &mut request.lease_revoke {
            self.name_lease(&mut revoke.id);
        }
        if let Some(put) = &mut request.put {
            self.name_lease(&mut put.lease);
            if !put.value.is_empty() && host.random.percent(20) {
                put.value = vec![b'v'; host.settings.large_value_bytes].into();
            }
        }
        if let Some(txn) = &mut request.txn {
            self.name_in_txn(txn, newest);
        }
        request
    }

    fn name_lease(&self, lease: &mut i64) {
        if let Some(place) = usize::try_from(*lease - 1).ok().filter(|place| *place < 3) {
            *lease = self.leases[place];
        }
    }

    fn name_in_txn(&self, txn: &mut pb::TxnRequest, newest: i64) {
        for op in txn.success.iter_mut().chain(&mut txn.failure) {
            match &mut op.request {
                Some(Request::RequestPut(put)) => self.name_lease(&mut put.lease),
                Some(Request::RequestRange(range)) => rebase(&mut range.revision, newest),
                Some(Request::RequestTxn(txn)) => self.name_in_txn(txn, newest),
                _ => {}
            }
        }
    }

    fn watch(&mut self, process: &Process, host: &mut Host) {
        let stream = self
            .streams
            .keys()
            .copied()
            .nth(host.random.size(0..STREAMS_MAX));
        let Some(stream) = stream else {
            return self.open(host);
        };
        let open = self.streams.get_mut(&stream).unwrap();
        let watches: Vec<i64> = open.watches.keys().copied().collect();
        let request = match host.random.within(0..20) {
            0 => {
                self.streams.remove(&stream);
                return host.send(
                    Party::Clients,
                    Party::Hub,
                    Message::CloseStream(StreamId(stream)),
                );
            }
            1 => StreamRequest::Progress,
            2 if !watches.is_empty() => {
                let watch_id = host.random.pick(&watches);
                StreamRequest::Cancel { watch_id }
            }
            3..12 => {
                self.next_number += 1;
                let mut request = self.broken.pop().unwrap_or_else(|| watch_request(host));
                request.watch_id = self.next_number as i64;
                let watch = Watch::new(request.clone(), host.checks.acknowledged());
                open.watches.insert(request.watch_id, watch);
                let seen = Seen {
                    revision: process.mvcc.shown.revision().0,
                    compacted_revision: process.mvcc.shown.compacted_revision().0,
                };
                StreamRequest::Create { request, seen }
            }
            _ => return,
        };
        let stream = StreamId(stream);
        host.send(
            Party::Clients,
            Party::Hub,
            Message::FromStream(FromStream { stream, request }),
        );
    }

    fn open(&mut self, host: &mut Host) {
        self.next_number += 1;
        let stream = self.next_number;
        let (sink, reader, _credits) = sink(host.settings.sink);
        let watches = BTreeMap::new();
        self.streams.insert(stream, Stream { reader, watches });
        let open = OpenStream {
            stream: StreamId(stream),
            sink,
        };
        host.send(Party::Clients, Party::Hub, Message::OpenStream(open));
    }

    /// Reads a part of what has come on each stream.
    fn read_streams(&mut self, host: &mut Host) {
        let streams: Vec<u64> = self.streams.keys().copied().collect();
        for stream in streams {
            let responses = host.random.size(0..6);
            self.read(stream, responses, host);
        }
    }

    fn read(&mut self, stream: u64, responses: usize, host: &mut Host) {
        let Some(open) = self.streams.get_mut(&stream) else {
            return;
        };
        let mut room = false;
        for _ in 0..responses {
            let Some((response, wakes)) = open.reader.try_next() else {
                break;
            };
            room |= wakes;
            let (message, _) = response.into_message(ResponseHeader::default());
            let watch_id = message.watch_id;
            host.note(&format!("stream {stream} has {message:?}"));
            if watch_id == -1 {
                // Progress of all: no watch of the stream lacks anything through it.
                let watches = open.watches.values_mut();
                watches.for_each(|watch| watch.progress(&message, host.checks.model()));
            } else if let Some(watch) = open.watches.get_mut(&watch_id) {
                watch.response(&message, host.checks.model());
            }
        }
        if room {
            host.send(
                Party::Clients,
                Party::Hub,
                Message::SinkReady(StreamId(stream)),
            );
        }
    }

    /// A request has come to its member.
    pub fn arrived(&mut self, ask: Ask, floor: i64, process: &mut Process, host: &mut Host) {
        match ask {
            Ask::Write(request) => {
                let (id, pending) = process.propose(Party::Clients, *request, host);
                self.calls.push(Stage::Writing(id, pending));
            }
            Ask::Defragment => {
                let (reply, pending) = Reply::channel();
                host.send(
                    Party::Clients,
                    Party::EngineWriter,
                    Message::Defragment(reply),
                );
                self.calls.push(Stage::Defragmenting(pending));
            }
            ask if process.status.reads_are_local() => self.answer(ask, floor, process, host),
            ask => {
                let (reply, pending) = Reply::channel();
                host.send(
                    Party::Clients,
                    Party::Raft,
                    Message::ReadIndex(ReadIndex { reply }),
                );
                self.calls.push(Stage::Confirming(pending, ask, floor));
            }
        }
    }

    /// Answers what only needs the newest view, or the lease timer.
    fn answer(&mut self, ask: Ask, floor: i64, process: &mut Process, host: &mut Host) {
        match ask {
            Ask::Range(request) => {
                let view = &process.mvcc.shown;
                let answer = range(&**view, &request)
                    .map_err(|error| error.into_reply().unwrap_or(EtcdError::Compacted));
                host.note(&format!("range: {answer:?}"));
                host.checks
                    .range(floor, view.applied_index(), &request, &answer);
            }
            Ask::KeepAlive(lease) => {
                let now_us = host.now_us();
                match process
                    .live_leases
                    .renew(LeaseId(lease), process.now_ms(host))
                {
                    InPlace::Renewed(ttl_s) => host.checks.renewed_in_place(lease, ttl_s, now_us),
                    InPlace::Unknown => {}
                    InPlace::Closed => {
                        let (reply, pending) = Reply::channel();
                        let id = LeaseId(lease);
                        let message = Message::KeepAlive(KeepAlive { id, reply });
                        host.send(Party::Clients, Party::Lease, message);
                        self.calls.push(Stage::Renewing(lease, now_us, pending));
                    }
                }
            }
            Ask::TimeToLive(lease) => {
                let (reply, pending) = Reply::channel();
                let id = LeaseId(lease);
                host.send(
                    Party::Clients,
                    Party::Lease,
                    Message::TimeToLive(TimeToLive { id, reply }),
                );
                self.calls.push(Stage::Asking(pending));
            }
            Ask::Hash => host
                .checks
                .hashed(process.views.hash_kv(At::Newest).unwrap()),
            Ask::Write(_) | Ask::Defragment => {}
        }
    }

    /// Takes in the answers that have come.
    pub fn poll(&mut self, process: &mut Process, host: &mut Host) {
        for stage in std::mem::take(&mut self.calls) {
            self.poll_one(stage, process, host);
        }
    }

    fn poll_one(&mut self, stage: Stage, process: &mut Process, host: &mut Host) {
        match stage {
            Stage::Writing(id, mut pending) => match pending.now() {
                None => self.calls.push(Stage::Writing(id, pending)),
                Some(Ok(answer)) => {
                    host.note(&format!("answer to {id}: {answer:?}"));
                    host.checks.answered(id, &answer);
                }
                Some(Err(_)) => {}
            },
            Stage::Confirming(mut pending, ask, floor) => match pending.now() {
                None => self.calls.push(Stage::Confirming(pending, ask, floor)),
                Some(Ok(Ok(index))) => {
                    self.poll_one(Stage::Applying(index, ask, floor), process, host)
                }
                Some(_) => {}
            },
            Stage::Applying(index, ask, floor) => {
                if process.mvcc.shown.applied_index() >= index.0 {
                    self.answer(ask, floor, process, host);
                } else {
                    self.calls.push(Stage::Applying(index, ask, floor));
                }
            }
            Stage::Renewing(lease, asked_us, mut pending) => match pending.now() {
                None => self.calls.push(Stage::Renewing(lease, asked_us, pending)),
                Some(Ok(Ok(ttl_s))) => host.checks.promised(lease, ttl_s, asked_us),
                Some(_) => {}
            },
            Stage::Asking(mut pending) => match pending.now() {
                None => self.calls.push(Stage::Asking(pending)),
                Some(Ok(Ok(Some(left)))) => assert!(left.ttl_s <= left.granted_ttl_s),
                Some(_) => {}
            },
            Stage::Defragmenting(mut pending) => {
                if pending.now().is_none() {
                    self.calls.push(Stage::Defragmenting(pending));
                }
            }
        }
    }

    /// The process they talked to is gone.
    pub fn disconnected(&mut self, host: &mut Host) {
        self.calls.clear();
        for stream in std::mem::take(&mut self.streams).into_values() {
            let watches = stream.watches.into_values();
            self.broken
                .extend(watches.filter_map(|watch| watch.resumed()));
        }
        host.network.forget(self.member);
    }

    /// Reads whatever has come.
    pub fn read_all(&mut self, host: &mut Host) {
        let streams: Vec<u64> = self.streams.keys().copied().collect();
        for stream in streams {
            self.read(stream, usize::MAX, host);
        }
    }

    /// What they still wait for: answers, and events; None if everything is answered and seen.
    pub fn wait_for(&self, host: &Host) -> Option<String> {
        if !self.calls.is_empty() {
            return Some(format!("{} requests have no answer", self.calls.len()));
        }
        let mut watches = self
            .streams
            .values()
            .flat_map(|stream| stream.watches.values());
        watches.find_map(|watch| watch.lacks(host.checks.model()))
    }
}

/// Whether a member takes a request: one that changes a key twice in a revision, for instance, gets no further.
fn is_valid(request: &InternalRaftRequest) -> bool {
    request
        .put
        .as_ref()
        .is_none_or(|put| validate::put(put).is_ok())
        && request
            .delete_range
            .as_ref()
            .is_none_or(|delete| validate::delete_range(delete).is_ok())
        && request
            .txn
            .as_ref()
            .is_none_or(|txn| validate::txn(txn, OPERATIONS_MAX).is_ok())
}

/// Moves a small revision to where the store is now.
fn rebase(revision: &mut i64, newest: i64) {
    if *revision > 0 && newest > REVISIONS_BACK {
        *revision += newest - REVISIONS_BACK;
    }
}

fn watch_request(host: &mut Host) -> pb::WatchCreateRequest {
    let key = host.random.pick(&["a", "b", "c", "\0"]);
    let range_end = match key {
        "\0" => "\0",
        _ => host.random.pick(&["", "", "d", "z"]),
    };
    let newest = host.checks.model().revision;
    let start_revision = match host.random.within(0..3) {
        0 => host.random.within(1..10) as i64 + (newest - 8).max(0),
        1 => host
            .random
            .within(1..u64::try_from(newest).unwrap_or(1) + 1) as i64,
        _ => 0,
    };
    let filter = host.random.pick(&[
        None,
        None,
        Some(FilterType::Noput),
        Some(FilterType::Nodelete),
    ]);
    pb::WatchCreateRequest {
        key: key.into(),
        range_end: range_end.into(),
        start_revision,
        prev_kv: host.random.percent(50),
        progress_notify: host.random.percent(50),
        filters: filter.map(|filter| filter as i32).into_iter().collect(),
        ..Default::default()
    }
}
