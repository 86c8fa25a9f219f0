//! What is checked before a request is proposed or read: everything that depends on the request alone.
//!
//! The order of the checks is etcd's, because a request with two faults must get etcd's answer.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;

use rusd_proto::EtcdError;
use rusd_proto::etcdserverpb as pb;
use rusd_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use rusd_proto::etcdserverpb::request_op::Request;

use super::range::{has_revision_filters, is_default_order};

/// How deep transactions may nest. The decoder of log entries follows a hundred levels of messages, and each nested
/// transaction takes two of them; a proposal beyond that could be committed but never applied. The budget of
/// operations (KV-T08) ends most nesting long before.
pub const MAX_NESTED_TXNS: usize = 48;

/// KV-R01, KV-R05.
pub fn range(request: &pb::RangeRequest) -> Result<(), EtcdError> {
    if request.key.is_empty() {
        return Err(EtcdError::EmptyKey);
    }
    if SortOrder::try_from(request.sort_order).is_err()
        || SortTarget::try_from(request.sort_target).is_err()
    {
        return Err(EtcdError::InvalidSortOption);
    }
    Ok(())
}

/// KV-S02.
pub fn range_stream(request: &pb::RangeRequest) -> Result<(), EtcdError> {
    range(request)?;
    if !is_default_order(request) {
        return Err(EtcdError::StreamUnsupported(
            "RangeStream does not support custom sort orders",
        ));
    }
    if has_revision_filters(request) {
        return Err(EtcdError::StreamUnsupported(
            "RangeStream does not support revision filters",
        ));
    }
    Ok(())
}

/// KV-P04, KV-P05.
pub fn put(request: &pb::PutRequest) -> Result<(), EtcdError> {
    if request.key.is_empty() {
        return Err(EtcdError::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(EtcdError::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(EtcdError::LeaseProvided);
    }
    Ok(())
}

/// A key must be named.
pub fn delete_range(request: &pb::DeleteRangeRequest) -> Result<(), EtcdError> {
    if request.key.is_empty() {
        Err(EtcdError::EmptyKey)
    } else {
        Ok(())
    }
}

/// KV-T07 to KV-T09: first the number of operations and each operation by itself, level by level, then overlaps.
pub fn txn(request: &pb::TxnRequest, max_txn_ops: usize) -> Result<(), EtcdError> {
    operations(request, max_txn_ops, 0)?;
    Writes::of(&request.success)?;
    Writes::of(&request.failure)?;
    Ok(())
}

/// `budget` is what the levels above have left over (KV-T08).
fn operations(request: &pb::TxnRequest, budget: usize, depth: usize) -> Result<(), EtcdError> {
    let ops = request
        .compare
        .len()
        .max(request.success.len())
        .max(request.failure.len());
    let Some(rest) = budget.checked_sub(ops).filter(|_| depth <= MAX_NESTED_TXNS) else {
        return Err(EtcdError::TooManyOps);
    };
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(EtcdError::EmptyKey);
    }
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(Request::RequestRange(request)) => range(request)?,
            Some(Request::RequestPut(request)) => put(request)?,
            Some(Request::RequestDeleteRange(request)) => delete_range(request)?,
            Some(Request::RequestTxn(request)) => operations(request, rest, depth + 1)?,
            None => return Err(EtcdError::KeyNotFound),
        }
    }
    Ok(())
}

/// What a list of operations writes, to find keys that would be written twice in one revision (KV-T07).
///
/// The rules are etcd's to the letter, gaps included. Deletes may overlap each other. The branches of one nested
/// transaction may overlap each other. The deletes of a level count against every put of the level and of the
/// transactions nested in it; the deletes of a nested transaction count against the ones nested after
/// it, and against the level's own puts, but not against the ones nested before it. And a delete of every key from some
/// key on overlaps nothing.
#[derive(Default)]
struct Writes<'a> {
    puts: HashSet<&'a [u8]>,
    deletes: Intervals<'a>,
}

impl<'a> Writes<'a> {
    fn of(ops: &'a [pb::RequestOp]) -> Result<Self, EtcdError> {
        let mut writes = Self::default();
        for op in ops {
            if let Some(Request::RequestDeleteRange(delete)) = &op.request {
                writes.deletes.insert(Interval::of(delete));
            }
        }
        for op in ops {
            if let Some(Request::RequestTxn(txn)) = &op.request {
                let success = Self::of(&txn.success)?;
                let failure = Self::of(&txn.failure)?;
                for key in &success.puts {
                    writes.put(key)?;
                }
                for key in &failure.puts {
                    if !success.puts.contains(key) {
                        writes.put(key)?;
                    }
                }
                for interval in success.deletes.iter().chain(failure.deletes.iter()) {
                    writes.deletes.insert(interval);
                }
            }
        }
        for op in ops {
            if let Some(Request::RequestPut(put)) = &op.request {
                writes.put(&put.key)?;
            }
        }
        Ok(writes)
    }

    fn put(&mut self, key: &'a [u8]) -> Result<(), EtcdError> {
        if self.deletes.contain(key) || !self.puts.insert(key) {
            return Err(EtcdError::DuplicateKey);
        }
        Ok(())
    }
}

/// Where a deletion ends: before this key, or right behind it and before any other. In that order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct End<'a> {
    key: &'a [u8],
    included: bool,
}

impl<'a> End<'a> {
    fn before(key: &'a [u8]) -> Self {
        Self {
            key,
            included: false,
        }
    }

    fn with(key: &'a [u8]) -> Self {
        Self {
            key,
            included: true,
        }
    }
}

#[derive(Clone, Copy)]
struct Interval<'a> {
    begin: &'a [u8],
    end: End<'a>,
}

impl<'a> Interval<'a> {
    fn of(delete: &'a pb::DeleteRangeRequest) -> Self {
        let end = if delete.range_end.is_empty() {
            End::with(&delete.key)
        } else {
            // "\0", which means every key from `key` on, makes an empty interval here.
            End::before(&delete.range_end)
        };
        Self {
            begin: &delete.key,
            end,
        }
    }

    fn is_empty(&self) -> bool {
        self.end <= End::before(self.begin)
    }
}

/// Disjoint intervals, by where they begin.
#[derive(Default)]
struct Intervals<'a> {
    by_begin: BTreeMap<&'a [u8], End<'a>>,
}

impl<'a> Intervals<'a> {
    fn contain(&self, key: &[u8]) -> bool {
        self.up_to(key)
            .is_some_and(|(_, end)| End::with(key) <= end)
    }

    /// The interval that begins last, at `key` or before.
    fn up_to(&self, key: &[u8]) -> Option<(&'a [u8], End<'a>)> {
        let bounds = (Bound::Unbounded, Bound::Included(key));
        self.by_begin
            .range::<[u8], _>(bounds)
            .next_back()
            .map(|(&begin, &end)| (begin, end))
    }

    /// Swallows what it overlaps.
    fn insert(&mut self, interval: Interval<'a>) {
        if interval.is_empty() {
            return;
        }
        let mut end = interval.end;
        let mut begin = interval.begin;
        if let Some((before, before_end)) = self.up_to(begin)
            && before_end >= End::before(begin)
        {
            begin = before;
            end = end.max(before_end);
        }
        while let Some((&after, &after_end)) = self.by_begin.range(begin..).next() {
            if End::before(after) > end {
                break;
            }
            end = end.max(after_end);
            self.by_begin.remove(after);
        }
        self.by_begin.insert(begin, end);
    }

    fn iter(&self) -> impl Iterator<Item = Interval<'a>> {
        self.by_begin
            .iter()
            .map(|(&begin, &end)| Interval { begin, end })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;
    use prost::Message;

    fn op(request: Request) -> pb::RequestOp {
        pb::RequestOp {
            request: Some(request),
        }
    }

    fn put_op(key: &str) -> pb::RequestOp {
        op(Request::RequestPut(pb::PutRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            ..Default::default()
        }))
    }

    fn delete_op(key: &str, range_end: &str) -> pb::RequestOp {
        op(Request::RequestDeleteRange(pb::DeleteRangeRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            range_end: Bytes::copy_from_slice(range_end.as_bytes()),
            ..Default::default()
        }))
    }

    fn txn_op(success: Vec<pb::RequestOp>, failure: Vec<pb::RequestOp>) -> pb::RequestOp {
        op(Request::RequestTxn(pb::TxnRequest {
            success,
            failure,
            ..Default::default()
        }))
    }

    fn check(success: Vec<pb::RequestOp>) -> Result<(), EtcdError> {
        let request = pb::TxnRequest {
            success,
            ..Default::default()
        };
        txn(&request, 128)
    }

    const DUPLICATE: Result<(), EtcdError> = Err(EtcdError::DuplicateKey);

    #[test]
    fn kv_t07_a_key_is_written_once_per_branch() {
        assert_eq!(check(vec![put_op("a"), put_op("b")]), Ok(()));
        assert_eq!(check(vec![put_op("a"), put_op("a")]), DUPLICATE);
        assert_eq!(check(vec![put_op("a"), delete_op("a", "")]), DUPLICATE);
        assert_eq!(check(vec![delete_op("a", "c"), put_op("b")]), DUPLICATE);
        assert_eq!(check(vec![delete_op("a", "c"), put_op("c")]), Ok(()));
        assert_eq!(check(vec![delete_op("a", ""), put_op("a\0")]), Ok(()));
        assert_eq!(
            check(vec![delete_op("a", "c"), delete_op("b", "d")]),
            Ok(())
        );
        let both_branches = pb::TxnRequest {
            success: vec![put_op("a")],
            failure: vec![put_op("a")],
            ..Default::default()
        };
        assert_eq!(txn(&both_branches, 128), Ok(()));
    }

    #[test]
    fn kv_t07_nested_branches_exclude_each_other_but_not_their_surroundings() {
        let nested = || txn_op(vec![put_op("a")], vec![put_op("a"), put_op("b")]);
        assert_eq!(check(vec![nested()]), Ok(()));
        assert_eq!(check(vec![nested(), put_op("b")]), DUPLICATE);
        assert_eq!(check(vec![nested(), nested()]), DUPLICATE);
        assert_eq!(check(vec![delete_op("b", "c"), nested()]), DUPLICATE);
        assert_eq!(
            check(vec![txn_op(vec![delete_op("a", "z")], vec![]), put_op("b")]),
            DUPLICATE
        );
        assert_eq!(
            check(vec![txn_op(vec![delete_op("a", "z")], vec![]), nested()]),
            DUPLICATE
        );
    }

    #[test]
    fn kv_t07_what_etcd_lets_through() {
        let nested = txn_op(vec![put_op("a")], vec![]);
        assert_eq!(
            check(vec![nested, txn_op(vec![delete_op("a", "z")], vec![])]),
            Ok(())
        );
        assert_eq!(check(vec![delete_op("a", "\0"), put_op("b")]), Ok(()));
        assert_eq!(check(vec![delete_op("c", "a"), put_op("b")]), Ok(()));
    }

    #[test]
    fn kv_t08_nested_txns_get_what_is_left_of_the_budget() {
        let request = |outer: usize, inner: usize| {
            let inner = (0..inner).map(|n| put_op(&format!("i{n}"))).collect();
            let mut success: Vec<_> = (1..outer).map(|n| put_op(&format!("o{n}"))).collect();
            success.push(txn_op(inner, vec![]));
            pb::TxnRequest {
                success,
                ..Default::default()
            }
        };
        assert_eq!(txn(&request(3, 5), 8), Ok(()));
        assert_eq!(txn(&request(3, 6), 8), Err(EtcdError::TooManyOps));
        assert_eq!(txn(&request(9, 0), 8), Err(EtcdError::TooManyOps));
        let compares = pb::TxnRequest {
            compare: vec![
                pb::Compare {
                    key: "a".into(),
                    ..Default::default()
                };
                9
            ],
            ..Default::default()
        };
        assert_eq!(txn(&compares, 8), Err(EtcdError::TooManyOps));
    }

    #[test]
    fn kv_t09_every_operation_is_checked_and_the_budget_comes_first() {
        let nothing = pb::RequestOp { request: None };
        assert_eq!(check(vec![nothing.clone()]), Err(EtcdError::KeyNotFound));
        assert_eq!(check(vec![put_op("")]), Err(EtcdError::EmptyKey));
        assert_eq!(
            check(vec![txn_op(vec![], vec![delete_op("", "")])]),
            Err(EtcdError::EmptyKey)
        );
        let unsortable = op(Request::RequestRange(pb::RangeRequest {
            key: "a".into(),
            sort_order: 7,
            ..Default::default()
        }));
        assert_eq!(
            check(vec![unsortable.clone(), put_op("")]),
            Err(EtcdError::InvalidSortOption)
        );
        assert_eq!(
            check(vec![put_op("a"), put_op("a"), unsortable]),
            Err(EtcdError::InvalidSortOption)
        );
        assert_eq!(check(vec![nothing; 129]), Err(EtcdError::TooManyOps));
        let without_key = pb::TxnRequest {
            compare: vec![pb::Compare::default()],
            success: vec![pb::RequestOp { request: None }],
            ..Default::default()
        };
        assert_eq!(txn(&without_key, 128), Err(EtcdError::EmptyKey));
    }

    #[test]
    fn kv_p04_kv_p05_what_is_kept_must_not_be_given() {
        let request = pb::PutRequest {
            key: "a".into(),
            value: "v".into(),
            lease: 1,
            ignore_value: true,
            ignore_lease: true,
            ..Default::default()
        };
        assert_eq!(put(&request), Err(EtcdError::ValueProvided));
        let request = pb::PutRequest {
            value: Bytes::new(),
            ..request
        };
        assert_eq!(put(&request), Err(EtcdError::LeaseProvided));
    }

    #[test]
    fn kv_s02_streams_have_no_orders_and_no_filters() {
        let request = pb::RangeRequest {
            key: "a".into(),
            sort_target: SortTarget::Key as i32,
            sort_order: SortOrder::Ascend as i32,
            ..Default::default()
        };
        assert_eq!(range_stream(&request), Ok(()));
        let descending = pb::RangeRequest {
            sort_order: SortOrder::Descend as i32,
            ..request.clone()
        };
        assert!(
            range_stream(&descending)
                .unwrap_err()
                .to_string()
                .contains("custom sort orders")
        );
        let filtered = pb::RangeRequest {
            max_mod_revision: 1,
            ..request
        };
        assert!(
            range_stream(&filtered)
                .unwrap_err()
                .to_string()
                .contains("revision filters")
        );
    }

    fn nested(depth: usize) -> pb::TxnRequest {
        let mut request = pb::TxnRequest {
            success: vec![put_op("a")],
            ..Default::default()
        };
        for _ in 0..depth {
            request = pb::TxnRequest {
                success: vec![op(Request::RequestTxn(request))],
                ..Default::default()
            };
        }
        request
    }

    #[test]
    fn whatever_validation_lets_through_can_be_decoded_from_the_log() {
        let deepest = nested(MAX_NESTED_TXNS);
        assert_eq!(txn(&deepest, 128), Ok(()));
        assert_eq!(
            txn(&nested(MAX_NESTED_TXNS + 1), 128),
            Err(EtcdError::TooManyOps)
        );
        let proposal = pb::InternalRaftRequest {
            txn: Some(deepest),
            ..Default::default()
        };
        assert!(pb::InternalRaftRequest::decode(proposal.encode_to_vec().as_slice()).is_ok());
    }

    proptest! {
        #[test]
        fn kv_t07_intervals_agree_with_a_list(
            deletes in prop::collection::vec(("[a-d]{1,3}", "[a-d]{0,3}"), 0..12),
            keys in prop::collection::vec("[a-d]{1,4}", 1..20),
        ) {
            let deletes: Vec<pb::DeleteRangeRequest> = deletes
                .into_iter()
                .map(|(key, range_end)| pb::DeleteRangeRequest {
                    key: key.into(),
                    range_end: range_end.into(),
                    ..Default::default()
                })
                .collect();
            let mut intervals = Intervals::default();
            for delete in &deletes {
                intervals.insert(Interval::of(delete));
            }
            for key in &keys {
                let key = key.as_bytes();
                let expected = deletes.iter().any(|delete| {
                    if delete.range_end.is_empty() {
                        key == delete.key
                    } else {
                        key >= delete.key.as_ref() && key < delete.range_end.as_ref()
                    }
                });
                prop_assert_eq!(intervals.contain(key), expected);
            }
        }
    }
}
