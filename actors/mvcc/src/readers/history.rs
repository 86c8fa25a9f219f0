//! Past events for the watch hub, a page at a time.

use crate::events::{event, previous};
use rusd_messages::reader::History;
use rusd_messages::watch::{HistoryError, HistoryPage, HistoryRevisions, RevisionEvents};
use rusd_messages::{Delivery, Port, fatal};
use rusd_proto::ids::Revision;
use rusd_storage::engine::EngineError;
use rusd_storage::{Change, ReadAt, ReadView, StorageError, StorageResult, Views};
use std::io;

/// The hub has one page outstanding at a time.
const HISTORY_QUEUE: usize = 16;

/// Starts the reader of history. An error if the operating system gives no thread.
pub fn spawn_history(views: &Views) -> io::Result<Port<History>> {
    let (port, queue) = Port::<History>::to_thread("history", HISTORY_QUEUE);
    let views = views.clone();
    std::thread::Builder::new()
        .name("history".to_owned())
        .spawn(move || {
            for request in queue {
                let request = Delivery::open(request);
                let Some(result) = history(&views, &request) else {
                    return;
                };
                let page = HistoryPage {
                    token: request.token,
                    result,
                };
                if request.reply.deliver(page).is_err() {
                    return;
                }
            }
        })?;
    Ok(port)
}

/// A page of past events, from the newest view; None if the member is stopping. Compaction is the only error: an engine
/// that fails otherwise ends the process.
pub fn history(views: &Views, request: &History) -> Option<Result<HistoryRevisions, HistoryError>> {
    let view = views.load();
    match history_page(&view, request) {
        Ok(page) => Some(Ok(page)),
        // A view that compaction has overtaken cannot read what it promised; neither can a newer one.
        Err(StorageError::Compacted | StorageError::Superseded) => {
            Some(Err(HistoryError::Compacted {
                compacted_revision: views.load().compacted_revision().0,
            }))
        }
        Err(StorageError::Engine(EngineError::Closed { .. })) => None,
        Err(error) => fatal("reading history", &error),
    }
}

fn history_page(view: &ReadView, request: &History) -> StorageResult<HistoryRevisions> {
    let page = view.history(
        Revision(request.from_revision),
        Revision(request.through_revision),
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
            revision: revision.0,
            with_previous: request.with_previous,
            events: events?.into(),
        });
    }
    Ok(HistoryRevisions {
        revisions,
        next_revision: page.next_revision.0,
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
