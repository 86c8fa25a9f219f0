//! Txn: compares, then one of two lists of operations, all at one revision.
//!
//! In three steps. *Plan*: all compares, nested ones too, are evaluated against the state before the transaction
//! (KV-T05), which flattens the request into the operations that will run. *Check*: every condition an operation
//! depends on is checked against that same state, so that an error comes before any effect (KV-T10). *Run*: each
//! operation sees the effects of those before it.

use rusd_proto::EtcdError;
use rusd_proto::etcdserverpb as pb;
use rusd_proto::etcdserverpb::request_op::Request;
use rusd_proto::etcdserverpb::response_op::Response;
use rusd_proto::ids::{LeaseId, Revision};
use rusd_storage::{At, ReadAt, Views, WriteTxn};

use super::range::on_newest;
use super::{compare, delete, header, put, range};
use crate::error::KvError;
use crate::lease::Leases;

/// Whether the transaction holds nothing but ranges at its top level: it is answered without the log (KV-T11).
pub fn is_read_only(request: &pb::TxnRequest) -> bool {
    all_ops(request).all(|op| matches!(op.request, Some(Request::RequestRange(_))))
}

/// Whether all its ranges may be stale. True without any operation: compares alone are answered locally (KV-T11).
pub fn is_serializable(request: &pb::TxnRequest) -> bool {
    all_ops(request)
        .all(|op| matches!(&op.request, Some(Request::RequestRange(range)) if range.serializable))
}

fn all_ops(request: &pb::TxnRequest) -> impl Iterator<Item = &pb::RequestOp> {
    request.success.iter().chain(&request.failure)
}

/// Answers a transaction that [`is_read_only`] from what `reader` sees. Operations that are not ranges have no
/// effect and an empty response.
pub fn read_only(
    reader: &impl ReadAt,
    request: &pb::TxnRequest,
) -> Result<pb::TxnResponse, KvError> {
    let plan = plan(reader, request)?;
    for step in &plan {
        if let Step::Range(request) = step {
            check_range(reader, request)?;
        }
    }
    let mut responses = Responses::default();
    for step in plan {
        match step {
            Step::Begin { succeeded } => responses.begin(succeeded),
            Step::Range(request) => responses.push(Some(Response::ResponseRange(range::range(
                reader, request,
            )?))),
            Step::End => responses.end(),
            Step::Put(_) | Step::Delete(_) | Step::Nothing => responses.push(None),
        }
    }
    Ok(responses.finish(reader.revision()))
}

/// Answers a transaction that [`is_read_only`] from the newest published view.
pub fn read_only_on_newest(
    views: &Views,
    request: &pb::TxnRequest,
) -> Result<pb::TxnResponse, KvError> {
    on_newest(views, oldest_revision(request), |view| {
        read_only(view, request)
    })
}

/// The oldest revision that a range of the transaction names; the newest if none does.
fn oldest_revision(request: &pb::TxnRequest) -> At {
    all_ops(request)
        .filter_map(|op| match &op.request {
            Some(Request::RequestRange(range)) => {
                Some(range.revision).filter(|&revision| revision > 0)
            }
            _ => None,
        })
        .min()
        .map_or(At::Newest, At::from_wire)
}

/// What a transaction wrote besides its changes.
pub(crate) struct Outcome {
    /// The reply.
    pub response: pb::TxnResponse,
    /// For each put with a lease: which change it is, and the lease. In order.
    pub leased: Vec<(usize, LeaseId)>,
}

/// Plans, checks and runs. On an error the caller drops `txn`, which takes everything back. Ranges are skipped
/// if nobody waits for the reply.
pub(crate) fn execute(
    txn: &mut WriteTxn<'_>,
    leases: &Leases,
    request: &pb::TxnRequest,
    wanted: bool,
) -> Result<Outcome, KvError> {
    let plan = plan(txn, request)?;
    for step in &plan {
        match step {
            Step::Range(request) => check_range(txn, request)?,
            Step::Put(request) => put::check(txn, leases, request)?,
            Step::Delete(_) | Step::Begin { .. } | Step::End | Step::Nothing => {}
        }
    }
    let mut responses = Responses::default();
    let mut leased = Vec::new();
    for step in plan {
        match step {
            Step::Begin { succeeded } => responses.begin(succeeded),
            Step::Range(request) => responses.push(Some(Response::ResponseRange(if wanted {
                range::range(txn, request)?
            } else {
                pb::RangeResponse {
                    header: header(txn.revision()),
                    ..pb::RangeResponse::default()
                }
            }))),
            Step::Put(request) => {
                let (response, lease) = put::execute(txn, request, wanted)?;
                if lease.is_some() {
                    leased.push((txn.changes().len() - 1, lease));
                }
                responses.push(Some(Response::ResponsePut(response)));
            }
            Step::Delete(request) => {
                let response = delete::execute(txn, request, wanted)?;
                responses.push(Some(Response::ResponseDeleteRange(response)));
            }
            Step::End => responses.end(),
            Step::Nothing => responses.push(None),
        }
    }
    Ok(Outcome {
        response: responses.finish(txn.revision()),
        leased,
    })
}

/// One thing to do. A transaction is the steps between its `Begin` and its `End`.
enum Step<'a> {
    Begin { succeeded: bool },
    Range(&'a pb::RangeRequest),
    Put(&'a pb::PutRequest),
    Delete(&'a pb::DeleteRangeRequest),
    Nothing,
    End,
}

fn plan<'a>(reader: &impl ReadAt, request: &'a pb::TxnRequest) -> Result<Vec<Step<'a>>, KvError> {
    let mut steps = Vec::with_capacity(2 + request.success.len().max(request.failure.len()));
    plan_into(reader, request, &mut steps)?;
    Ok(steps)
}

/// Recurses no deeper than the decoder let the request nest.
fn plan_into<'a>(
    reader: &impl ReadAt,
    request: &'a pb::TxnRequest,
    steps: &mut Vec<Step<'a>>,
) -> Result<(), KvError> {
    let succeeded = compare::all_hold(reader, &request.compare)?;
    steps.push(Step::Begin { succeeded });
    for op in if succeeded {
        &request.success
    } else {
        &request.failure
    } {
        match &op.request {
            Some(Request::RequestRange(request)) => steps.push(Step::Range(request)),
            Some(Request::RequestPut(request)) => steps.push(Step::Put(request)),
            Some(Request::RequestDeleteRange(request)) => steps.push(Step::Delete(request)),
            Some(Request::RequestTxn(request)) => plan_into(reader, request, steps)?,
            None => steps.push(Step::Nothing),
        }
    }
    steps.push(Step::End);
    Ok(())
}

/// Unlike a range on its own, one in a transaction takes no revision below zero for the newest once something was
/// compacted: as in etcd.
fn check_range(reader: &impl ReadAt, request: &pb::RangeRequest) -> Result<(), EtcdError> {
    match Revision(request.revision) {
        Revision(0) => Ok(()),
        at if at > reader.revision() => Err(EtcdError::FutureRevision),
        at if at < reader.compacted_revision() => Err(EtcdError::Compacted),
        _ => Ok(()),
    }
}

/// The response under construction: the transactions that have begun and not ended, outermost first.
#[derive(Default)]
struct Responses {
    open: Vec<pb::TxnResponse>,
    done: Option<pb::TxnResponse>,
}

impl Responses {
    fn begin(&mut self, succeeded: bool) {
        self.open.push(pb::TxnResponse {
            // Inner headers are there, and empty (G-03).
            header: Some(pb::ResponseHeader::default()),
            succeeded,
            responses: Vec::new(),
        });
    }

    fn push(&mut self, response: Option<Response>) {
        if let Some(txn) = self.open.last_mut() {
            txn.responses.push(pb::ResponseOp { response });
        }
    }

    fn end(&mut self) {
        let ended = self.open.pop();
        match (ended, self.open.last_mut()) {
            (Some(inner), Some(outer)) => outer.responses.push(pb::ResponseOp {
                response: Some(Response::ResponseTxn(inner)),
            }),
            (outermost, _) => self.done = outermost,
        }
    }

    fn finish(self, revision: Revision) -> pb::TxnResponse {
        pb::TxnResponse {
            header: header(revision),
            ..self.done.unwrap_or_default()
        }
    }
}
