//! The compares of a Txn (KV-T02 to KV-T04).

use std::cmp::Ordering;
use std::ops::ControlFlow;

use rusd_proto::etcdserverpb as pb;
use rusd_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use rusd_storage::{At, KeyMeta, KeyRange, ReadAt};

use crate::error::KvError;

/// Whether all of them hold; true if there are none (KV-T01).
pub(crate) fn all_hold(reader: &impl ReadAt, compares: &[pb::Compare]) -> Result<bool, KvError> {
    for compare in compares {
        if !holds(reader, compare)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Every key of the range must satisfy it. A range without keys is compared as a key whose numbers are all 0, and
/// never satisfies a compare of values.
fn holds(reader: &impl ReadAt, compare: &pb::Compare) -> Result<bool, KvError> {
    let mut found = false;
    let mut outcome = Ok(true);
    let mut visit = |meta: &KeyMeta| {
        found = true;
        outcome = matches(reader, compare, meta);
        if matches!(outcome, Ok(true)) {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    };
    match KeyRange::from_wire(compare.key.clone(), compare.range_end.clone()) {
        KeyRange::One(key) => {
            if let Some(meta) = reader.get(&key, At::Newest)? {
                let _ = visit(&meta);
            }
        }
        keys => reader.walk(&keys, At::Newest, &mut |_, meta| visit(meta))?,
    }
    if found {
        return outcome;
    }
    Ok(compare.target != CompareTarget::Value as i32 && accepts(compare, 0.cmp(&operand(compare))))
}

fn matches(reader: &impl ReadAt, compare: &pb::Compare, meta: &KeyMeta) -> Result<bool, KvError> {
    let order = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Version) => meta.version.cmp(&operand(compare)),
        Ok(CompareTarget::Create) => meta.create_revision.0.cmp(&operand(compare)),
        Ok(CompareTarget::Mod) => meta.mod_revision.main.0.cmp(&operand(compare)),
        Ok(CompareTarget::Lease) => {
            let lease = reader.record(meta.mod_revision, At::Newest)?.lease()?;
            lease.0.cmp(&operand(compare))
        }
        Ok(CompareTarget::Value) => {
            let value = reader.record(meta.mod_revision, At::Newest)?.value()?;
            match &compare.target_union {
                Some(TargetUnion::Value(operand)) => value.cmp(operand),
                _ => value.as_ref().cmp(b""),
            }
        }
        // Nothing is compared, as in etcd.
        Err(_) => Ordering::Equal,
    };
    Ok(accepts(compare, order))
}

/// The number to compare with: 0 unless the union holds the field that the target names (KV-T02).
fn operand(compare: &pb::Compare) -> i64 {
    match (
        CompareTarget::try_from(compare.target),
        &compare.target_union,
    ) {
        (Ok(CompareTarget::Version), Some(TargetUnion::Version(n)))
        | (Ok(CompareTarget::Create), Some(TargetUnion::CreateRevision(n)))
        | (Ok(CompareTarget::Mod), Some(TargetUnion::ModRevision(n)))
        | (Ok(CompareTarget::Lease), Some(TargetUnion::Lease(n))) => *n,
        _ => 0,
    }
}

fn accepts(compare: &pb::Compare, order: Ordering) -> bool {
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => order.is_eq(),
        Ok(CompareResult::NotEqual) => order.is_ne(),
        Ok(CompareResult::Greater) => order.is_gt(),
        Ok(CompareResult::Less) => order.is_lt(),
        // An operator that does not exist excludes nothing, as in etcd.
        Err(_) => true,
    }
}
