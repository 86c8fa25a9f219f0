//! RangeStream: a range in chunks, each read on its own at one pinned revision (KV-S03 to KV-S08).

use bytes::Bytes;
use prost::Message;
use rusd_proto::etcdserverpb as pb;
use rusd_proto::ids::Revision;
use rusd_storage::{At, KeyRange, ReadAt, Views};

use super::header;
use super::range::{check_revision, first_page, on_newest};
use crate::error::KvError;

/// Keys in the first chunk (KV-S06).
const FIRST_CHUNK_KEYS: i64 = 10;

/// Where a RangeStream stands. Holds no keys or values, only the next key to read from; each chunk may
/// be read on another view.
#[derive(Debug)]
pub struct Pager {
    /// The rest of the range: `key` moves on with each chunk. Its revision is the pinned one.
    request: pb::RangeRequest,
    /// Keys the whole stream may still send; None without a limit.
    remaining: Option<i64>,
    /// Keys in the next chunk, at most.
    chunk_keys: i64,
    /// Keys sent.
    sent: i64,
    /// What the last chunk's header says: the newest revision when the stream began (KV-S04).
    header_revision: Revision,
    /// Chunks are steered towards this size.
    target_bytes: usize,
    finished: bool,
}

impl Pager {
    /// Starts a stream at what `reader` sees now. The request is one that
    /// [`validate::range_stream`](super::validate::range_stream) has let through.
    pub fn new(
        reader: &impl ReadAt,
        mut request: pb::RangeRequest,
        max_request_bytes: usize,
    ) -> Self {
        let header_revision = reader.revision();
        if request.revision <= 0 {
            request.revision = header_revision.0;
        }
        Self {
            remaining: Some(request.limit).filter(|&limit| limit > 0),
            chunk_keys: FIRST_CHUNK_KEYS,
            sent: 0,
            header_revision,
            target_bytes: max_request_bytes,
            finished: false,
            request,
        }
    }

    /// Whether the last chunk has been taken.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// The next chunk, read from `reader`, which must not be older than the one before. After an error that
    /// [`is_superseded`](KvError::is_superseded) the same chunk may be asked for again, on a newer view. After the last
    /// chunk, an empty one.
    pub fn next(&mut self, reader: &impl ReadAt) -> Result<pb::RangeResponse, KvError> {
        let (response, next_key) = self.read(reader)?;
        self.advance(&response, next_key);
        Ok(response)
    }

    /// The next chunk, read from the newest view.
    pub fn next_on_newest(&mut self, views: &Views) -> Result<pb::RangeResponse, KvError> {
        let (response, next_key) =
            on_newest(views, At::from_wire(self.request.revision), |view| {
                self.read(view)
            })?;
        self.advance(&response, next_key);
        Ok(response)
    }

    fn advance(&mut self, response: &pb::RangeResponse, next_key: Option<Bytes>) {
        let read = response.kvs.len() as i64;
        self.sent += read;
        if let Some(remaining) = &mut self.remaining {
            *remaining -= read;
        }
        match next_key {
            Some(key) => self.request.key = key,
            None => self.finished = true,
        }
        let bytes = response.encoded_len();
        if bytes < self.target_bytes / 2 {
            self.chunk_keys = self.chunk_keys.saturating_mul(2);
        } else if bytes > self.target_bytes.saturating_mul(2) {
            self.chunk_keys = (self.chunk_keys / 2).max(1);
        }
    }

    /// Reads a chunk; the key to go on from, unless it is the last.
    fn read(&self, reader: &impl ReadAt) -> Result<(pb::RangeResponse, Option<Bytes>), KvError> {
        if self.finished {
            return Ok((pb::RangeResponse::default(), None));
        }
        let request = &self.request;
        let at = At::from_wire(request.revision);
        check_revision(reader, at)?;
        let keys = KeyRange::from_wire(request.key.clone(), request.range_end.clone());
        if request.count_only {
            let response = pb::RangeResponse {
                header: header(self.header_revision),
                count: reader.count(&keys, at)?,
                ..pb::RangeResponse::default()
            };
            return Ok((response, None));
        }
        let limit = self
            .remaining
            .map_or(self.chunk_keys, |remaining| self.chunk_keys.min(remaining));
        let mut last_key = Vec::new();
        let page = first_page(reader, &keys, request, Some(limit), Some(&mut last_key))?;
        last_key.push(0);
        let next_key = Bytes::from(last_key);
        let read = page.kvs.len() as i64;
        let mut response = pb::RangeResponse {
            kvs: page.kvs,
            ..pb::RangeResponse::default()
        };
        if page.more && self.remaining != Some(read) {
            return Ok((response, Some(next_key)));
        }
        response.header = header(self.header_revision);
        response.more = page.more;
        response.count = self.sent + read;
        if page.more {
            let rest = KeyRange::from_wire(next_key, request.range_end.clone());
            response.count += reader.count(&rest, at)?;
        }
        Ok((response, None))
    }
}
