//! Readers: threads that answer what would occupy a gRPC thread for too long.
//!
//! All of them take from one queue, so that one long read delays nobody while another thread is free.
//! History for the watch hub has a thread of its own: a HashKV over everything must not hold up watchers.

use crate::events::{event, previous};
use crate::priority;
use rusd_messages::reader::{HashKv, History, LargeRange, Read};
use rusd_messages::watch::{HistoryError, HistoryPage, HistoryRevisions, RevisionEvents};
use rusd_messages::{Delivery, Port, fatal};
use rusd_proto::EtcdError;
use rusd_proto::etcdserverpb as pb;
use rusd_state::kv::range;
use rusd_storage::{Change, ReadAt, ReadView, StorageError, StorageResult, Views};
use std::io;

/// Large reads that may wait; a handler that finds the queue full answers `too many requests`.
pub const READ_QUEUE: usize = 1024;
/// The hub has one page outstanding at a time.
pub const HISTORY_QUEUE: usize = 16;

/// Starts `threads` readers.
pub fn spawn_readers(views: &Views, threads: usize) -> io::Result<Port<Read>> {
    let (port, queue) = Port::<Read>::to_thread("reader", READ_QUEUE);
    for n in 0..threads {
        let views = views.clone();
        let queue = queue.clone();
        std::thread::Builder::new()
            .name(format!("reader-{n}"))
            .spawn(move || {
                priority::let_others_go_first();
                for read in queue {
                    answer(&views, read.open());
                }
            })?;
    }
    Ok(port)
}

/// Starts the reader of history.
pub fn spawn_history(views: &Views) -> io::Result<Port<History>> {
    let (port, queue) = Port::<History>::to_thread("history", HISTORY_QUEUE);
    let views = views.clone();
    std::thread::Builder::new()
        .name("history".to_owned())
        .spawn(move || {
            for request in queue {
                let request = Delivery::open(request);
                let page = HistoryPage {
                    token: request.token,
                    result: history(&views, &request),
                };
                if request.reply.deliver(page).is_err() {
                    return;
                }
            }
        })?;
    Ok(port)
}

fn answer(views: &Views, read: Read) {
    match read {
        Read::Range(LargeRange { request, reply }) => {
            if reply.is_wanted() {
                reply.send(range::range_on_newest(views, &request));
            }
        }
        Read::HashKv(HashKv { revision, reply }) => reply.send(hash_kv(views, revision)),
    }
}

fn hash_kv(views: &Views, revision: i64) -> Result<pb::HashKvResponse, EtcdError> {
    let hash = views
        .hash_kv(revision)
        .map_err(|error| fatal_or_reply("HashKV", error))?;
    Ok(pb::HashKvResponse {
        header: None,
        hash: hash.hash,
        compact_revision: hash.compact_revision,
        hash_revision: hash.revision,
    })
}

fn history(views: &Views, request: &History) -> Result<HistoryRevisions, HistoryError> {
    let view = views.load();
    match history_page(&view, request) {
        Ok(page) => Ok(page),
        // A view that compaction has overtaken cannot read what it promised; neither can a newer one.
        Err(StorageError::Compacted | StorageError::Superseded) => Err(HistoryError::Compacted {
            compacted_revision: views.load().compacted_revision(),
        }),
        Err(error) => fatal("reading history", &error),
    }
}

fn history_page(view: &ReadView, request: &History) -> StorageResult<HistoryRevisions> {
    let page = view.history(
        request.from_revision,
        request.through_revision,
        request.max_bytes,
        request.with_previous,
    )?;
    let mut revisions = Vec::with_capacity(page.changes.len());
    for (revision, changes) in page.changes {
        let events: StorageResult<Vec<_>> = changes
            .iter()
            .map(|change| {
                Ok(event(
                    change,
                    previous_if(view, change, request.with_previous)?,
                ))
            })
            .collect();
        revisions.push(RevisionEvents {
            revision,
            with_previous: request.with_previous,
            events: events?.into(),
        });
    }
    Ok(HistoryRevisions {
        revisions,
        next_revision: page.next_revision,
    })
}

fn previous_if(
    view: &ReadView,
    change: &Change,
    wanted: bool,
) -> StorageResult<Option<bytes::Bytes>> {
    if wanted {
        previous(view, change)
    } else {
        Ok(None)
    }
}

/// A deterministic error is the caller's; anything else is a failed disk or a broken invariant.
fn fatal_or_reply(doing: &'static str, error: StorageError) -> EtcdError {
    match error {
        StorageError::Compacted | StorageError::Superseded => EtcdError::Compacted,
        StorageError::FutureRevision => EtcdError::FutureRevision,
        error => fatal(doing, &error),
    }
}
