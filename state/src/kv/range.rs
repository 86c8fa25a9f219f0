//! Range: keys and values, counts, sorted and filtered.
//!
//! Three ways through, chosen by what the request needs:
//!
//! | request | cost |
//! |---|---|
//! | one key, or key order with a limit | O(log n + limit); `count` comes from the index |
//! | filters, or order by version or revision | walks the index of the range; reads only records it returns |
//! | order by value | reads every record of the range, keeps at most twice the limit |
//!
//! Stored records are already the marshalled `KeyValue` of the reply and are passed on as they are.

use std::ops::ControlFlow;

use bytes::Bytes;
use prost::Message;
use rusd_proto::EtcdError;
use rusd_proto::etcdserverpb as pb;
use rusd_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use rusd_proto::mvccpb::KeyValue;
use rusd_storage::{At, KeyMeta, KeyRange, ReadAt, Record, RecordRevision, StorageError, Views};

use super::header;
pub use super::stream::Pager;
use crate::error::KvError;

/// How often a read starts over on a newer view before it registers its revision, which cannot fail for long.
const OPTIMISTIC_READS: usize = 3;
/// A sorted read with a limit cuts its candidates back to the limit whenever they have doubled, but not below this.
const MIN_CANDIDATES_BEFORE_CUT: usize = 256;

/// What a request selects, before the header is put on.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Marshalled `KeyValue`s.
    pub kvs: Vec<Bytes>,
    /// Whether the limit cut something off.
    pub more: bool,
}

/// Answers a Range from what `reader` sees. The header's revision is the newest one, whatever revision was
/// asked for (KV-R04).
pub fn range(
    reader: &impl ReadAt,
    request: &pb::RangeRequest,
) -> Result<pb::RangeResponse, KvError> {
    let at = At::from_wire(request.revision);
    check_revision(reader, at)?;
    let keys = KeyRange::from_wire(request.key.clone(), request.range_end.clone());
    let mut response = pb::RangeResponse {
        header: header(reader.revision()),
        ..pb::RangeResponse::default()
    };
    if request.count_only {
        response.count = reader.count(&keys, at)?;
        return Ok(response);
    }
    let page = if is_plain(request) {
        first_page(reader, &keys, request, limit(request), None)?
    } else {
        Selection::new(request).run(reader, &keys)?
    };
    // A page that holds every key of the range needs no second look at the index.
    response.count = if page.more || has_revision_filters(request) {
        reader.count(&keys, at)?
    } else {
        page.kvs.len() as i64
    };
    response.more = page.more;
    response.kvs = page.kvs;
    Ok(response)
}

/// Answers a Range from the newest published view.
pub fn range_on_newest(
    views: &Views,
    request: &pb::RangeRequest,
) -> Result<pb::RangeResponse, KvError> {
    on_newest(views, At::from_wire(request.revision), |view| {
        range(view, request)
    })
}

/// Runs a read on the newest view, and again on a newer one if compaction overtook it.
pub(crate) fn on_newest<T>(
    views: &Views,
    at: At,
    read: impl Fn(&rusd_storage::ReadView) -> Result<T, KvError>,
) -> Result<T, KvError> {
    for _ in 0..OPTIMISTIC_READS {
        match read(&views.peek()) {
            Err(error) if error.is_superseded() => {}
            result => return result,
        }
    }
    loop {
        let view = views.load();
        match view.register(at) {
            Ok(_guard) => return read(&view),
            // Compaction took another step between the load and the registration: the next view knows of it.
            Err(StorageError::Superseded) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// What a Range would cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Keys it would touch in the index.
    pub keys: i64,
    /// Bytes of records it would read; not looked up for a single key.
    pub bytes: i64,
}

/// What a Range would cost, without reading anything.
pub fn estimate(reader: &impl ReadAt, request: &pb::RangeRequest) -> Cost {
    // One key is answered where it is asked for, whatever its size: looking it up twice would cost more.
    if request.count_only || request.range_end.is_empty() {
        return Cost { keys: 1, bytes: 0 };
    }
    let keys = KeyRange::from_wire(request.key.clone(), request.range_end.clone());
    let whole = reader.estimate(&keys);
    let (keys, bytes) = (saturate(whole.keys), saturate(whole.bytes));
    let returned = match limit(request) {
        Some(limit) => keys.min(limit),
        None => keys,
    };
    let touched = if is_plain(request) { returned } else { keys };
    let by_value = request.sort_target == SortTarget::Value as i32;
    let bytes = if request.keys_only && !by_value {
        0
    } else if by_value || returned == keys {
        bytes
    } else {
        (i128::from(bytes) * i128::from(returned) / i128::from(keys.max(1))) as i64
    };
    Cost {
        keys: touched,
        bytes,
    }
}

fn saturate(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// KV-R03. Storage checks it too, but not for a range that cannot hold a key.
pub(crate) fn check_revision(reader: &impl ReadAt, at: At) -> Result<(), EtcdError> {
    match at {
        At::Revision(revision) if revision > reader.revision() => Err(EtcdError::FutureRevision),
        At::Revision(revision) if revision < reader.compacted_revision() => {
            Err(EtcdError::Compacted)
        }
        At::Newest | At::Revision(_) => Ok(()),
    }
}

/// Whether the order asked for is the one the index has (KV-S02).
pub(crate) fn is_default_order(request: &pb::RangeRequest) -> bool {
    request.sort_order == SortOrder::None as i32
        || (request.sort_target == SortTarget::Key as i32
            && request.sort_order == SortOrder::Ascend as i32)
}

/// Whether min/max revisions are given (KV-R09).
pub(crate) fn has_revision_filters(request: &pb::RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

/// Key order, nothing filtered out.
pub fn is_plain(request: &pb::RangeRequest) -> bool {
    request.sort_target == SortTarget::Key as i32
        && is_default_order(request)
        && !has_revision_filters(request)
}

/// KV-R02: zero and below mean no limit.
fn limit(request: &pb::RangeRequest) -> Option<i64> {
    Some(request.limit).filter(|&limit| limit > 0)
}

/// Reads in key order from the start of `keys`. Puts the last key of the page into `last_key`.
pub(crate) fn first_page(
    reader: &impl ReadAt,
    keys: &KeyRange,
    request: &pb::RangeRequest,
    limit: Option<i64>,
    mut last_key: Option<&mut Vec<u8>>,
) -> Result<Page, KvError> {
    let at = At::from_wire(request.revision);
    let mut page = Page::default();
    if let KeyRange::One(key) = keys {
        if let Some(meta) = reader.get(key, at)? {
            page.kvs = vec![if request.keys_only {
                key_only(key, &meta)
            } else {
                reader.record(meta.mod_revision, at)?.bytes
            }];
        }
        return Ok(page);
    }
    let limit = limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    });
    let mut revisions = Vec::new();
    reader.walk(keys, at, &mut |key, meta| {
        if page.kvs.len() + revisions.len() == limit {
            page.more = true;
            return ControlFlow::Break(());
        }
        if request.keys_only {
            page.kvs.push(key_only(key, meta));
        } else {
            revisions.push(meta.mod_revision);
        }
        if let Some(last_key) = &mut last_key {
            last_key.clear();
            last_key.extend_from_slice(key);
        }
        ControlFlow::Continue(())
    })?;
    if !request.keys_only {
        page.kvs = kvs(reader, &revisions, at)?;
    }
    Ok(page)
}

/// The marshalled `KeyValue`s of these revisions.
fn kvs(reader: &impl ReadAt, revisions: &[RecordRevision], at: At) -> Result<Vec<Bytes>, KvError> {
    let records = reader.records(revisions, at)?;
    Ok(records.into_iter().map(|record| record.bytes).collect())
}

/// KV-R07: what the index knows about a key. The lease is not among it.
fn key_only(key: &[u8], meta: &KeyMeta) -> Bytes {
    let kv = KeyValue {
        key: Bytes::copy_from_slice(key),
        create_revision: meta.create_revision.0,
        mod_revision: meta.mod_revision.main.0,
        version: meta.version,
        ..KeyValue::default()
    };
    kv.encode_to_vec().into()
}

fn without_value(record: &Record) -> Result<Bytes, KvError> {
    let mut kv = record.decode()?;
    kv.value = Bytes::new();
    Ok(kv.encode_to_vec().into())
}

/// A key that passed the filters, with what it is sorted by.
struct Candidate {
    rank: i64,
    value: Bytes,
    meta: KeyMeta,
    /// Only for keys_only, which is answered from the index.
    key: Bytes,
    /// Only when sorted by value.
    record: Option<Record>,
}

/// A Range that is filtered, or in another order than the index (KV-R05, KV-R09).
struct Selection<'a> {
    request: &'a pb::RangeRequest,
    target: SortTarget,
    descending: bool,
    candidates: Vec<Candidate>,
}

impl<'a> Selection<'a> {
    fn new(request: &'a pb::RangeRequest) -> Self {
        Self {
            request,
            target: SortTarget::try_from(request.sort_target).unwrap_or_default(),
            descending: request.sort_order == SortOrder::Descend as i32,
            candidates: Vec::new(),
        }
    }

    fn run(mut self, reader: &impl ReadAt, keys: &KeyRange) -> Result<Page, KvError> {
        let request = self.request;
        let at = self.at();
        let keep = limit(request).map_or(usize::MAX, |limit| {
            usize::try_from(limit).unwrap_or(usize::MAX)
        });
        // As etcd does: without an explicit order (and without filters) the limit is taken in key order, one
        // key beyond it for `more`, and what is left is sorted.
        let stop_after = if is_default_order(request)
            && (!has_revision_filters(request) || self.target == SortTarget::Key)
        {
            keep.saturating_add(1)
        } else {
            usize::MAX
        };
        let cut_at = keep.saturating_mul(2).max(MIN_CANDIDATES_BEFORE_CUT);
        let mut passed: usize = 0;
        let mut failure = None;
        reader.walk(keys, at, &mut |key, meta| {
            if !self.passes(meta) {
                return ControlFlow::Continue(());
            }
            passed += 1;
            match self.candidate(reader, key, meta, passed) {
                Ok(candidate) => self.candidates.push(candidate),
                Err(error) => {
                    failure = Some(error);
                    return ControlFlow::Break(());
                }
            }
            if passed == stop_after {
                return ControlFlow::Break(());
            }
            if self.candidates.len() >= cut_at {
                self.sort();
                self.candidates.truncate(keep);
            }
            ControlFlow::Continue(())
        })?;
        if let Some(error) = failure {
            return Err(error);
        }
        self.sort();
        self.candidates.truncate(keep);
        Ok(Page {
            kvs: self.materialise(reader)?,
            more: passed > keep,
        })
    }

    fn at(&self) -> At {
        At::from_wire(self.request.revision)
    }

    fn passes(&self, meta: &KeyMeta) -> bool {
        let request = self.request;
        let (created, modified) = (meta.create_revision.0, meta.mod_revision.main.0);
        (request.max_mod_revision == 0 || modified <= request.max_mod_revision)
            && (request.min_mod_revision == 0 || modified >= request.min_mod_revision)
            && (request.max_create_revision == 0 || created <= request.max_create_revision)
            && (request.min_create_revision == 0 || created >= request.min_create_revision)
    }

    /// `nth` is the candidate's place in key order.
    fn candidate(
        &self,
        reader: &impl ReadAt,
        key: &[u8],
        meta: &KeyMeta,
        nth: usize,
    ) -> Result<Candidate, KvError> {
        let mut candidate = Candidate {
            rank: 0,
            value: Bytes::new(),
            meta: *meta,
            key: Bytes::new(),
            record: None,
        };
        match self.target {
            SortTarget::Key => candidate.rank = nth as i64,
            SortTarget::Version => candidate.rank = meta.version,
            SortTarget::Create => candidate.rank = meta.create_revision.0,
            SortTarget::Mod => candidate.rank = meta.mod_revision.main.0,
            SortTarget::Value => {
                let record = reader.record(meta.mod_revision, self.at())?;
                candidate.value = record.value()?;
                candidate.record = Some(record);
            }
        }
        if self.request.keys_only && self.target != SortTarget::Value {
            candidate.key = Bytes::copy_from_slice(key);
        }
        Ok(candidate)
    }

    /// Stable: keys that compare equal stay in key order, in both directions.
    fn sort(&mut self) {
        let descending = self.descending;
        self.candidates.sort_by(|a, b| {
            let (a, b) = if descending { (b, a) } else { (a, b) };
            a.rank.cmp(&b.rank).then_with(|| a.value.cmp(&b.value))
        });
    }

    /// What is answered for the candidates, in their order.
    fn materialise(&self, reader: &impl ReadAt) -> Result<Vec<Bytes>, KvError> {
        let candidates = self.candidates.iter();
        if self.target == SortTarget::Value {
            let records = candidates.flat_map(|candidate| &candidate.record);
            return records
                .map(|record| match self.request.keys_only {
                    true => without_value(record),
                    false => Ok(record.bytes.clone()),
                })
                .collect();
        }
        if self.request.keys_only {
            return Ok(candidates
                .map(|candidate| key_only(&candidate.key, &candidate.meta))
                .collect());
        }
        let revisions: Vec<RecordRevision> = candidates
            .map(|candidate| candidate.meta.mod_revision)
            .collect();
        kvs(reader, &revisions, self.at())
    }
}
