//! What a request costs against the space quota. Checked before proposing; apply never rejects by size (V-08).

use rusd_proto::etcdserverpb as pb;
use rusd_proto::etcdserverpb::request_op::Request;

/// What a key costs besides its bytes: metadata and index, roughly (KV-P07).
const KEY_OVERHEAD_BYTES: u64 = 256;

/// What a lease costs (L-02).
pub const LEASE_COST_BYTES: u64 = 64;

/// The cost of a put.
pub fn put_cost(request: &pb::PutRequest) -> u64 {
    KEY_OVERHEAD_BYTES + request.key.len() as u64 + request.value.len() as u64
}

/// The cost of a transaction: that of its dearer branch, nested ones included (KV-T14). 0 without puts.
pub fn txn_cost(request: &pb::TxnRequest) -> u64 {
    ops_cost(&request.success).max(ops_cost(&request.failure))
}

fn ops_cost(ops: &[pb::RequestOp]) -> u64 {
    ops.iter()
        .map(|op| match &op.request {
            Some(Request::RequestPut(put)) => put_cost(put),
            Some(Request::RequestTxn(txn)) => txn_cost(txn),
            _ => 0,
        })
        .sum()
}

/// Whether a request of this cost may be proposed while the store holds `logical_bytes`. What costs nothing always
/// may: deletes free space (KV-D04).
pub fn fits(cost_bytes: u64, logical_bytes: u64, quota_bytes: u64) -> bool {
    cost_bytes == 0 || logical_bytes.saturating_add(cost_bytes) < quota_bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(value_bytes: usize) -> pb::RequestOp {
        op(Request::RequestPut(pb::PutRequest {
            key: "k".into(),
            value: vec![0; value_bytes].into(),
            ..Default::default()
        }))
    }

    fn op(request: Request) -> pb::RequestOp {
        pb::RequestOp {
            request: Some(request),
        }
    }

    #[test]
    fn kv_t14_a_txn_costs_what_its_dearer_branch_costs_nested_included() {
        let inner = pb::TxnRequest {
            failure: vec![put(1000)],
            ..Default::default()
        };
        let txn = pb::TxnRequest {
            success: vec![put(10), put(20)],
            failure: vec![put(10), op(Request::RequestTxn(inner))],
            ..Default::default()
        };
        assert_eq!(txn_cost(&txn), 2 * (256 + 1) + 10 + 1000);
        let swapped = pb::TxnRequest {
            success: txn.failure.clone(),
            failure: txn.success.clone(),
            ..Default::default()
        };
        assert_eq!(txn_cost(&swapped), txn_cost(&txn));
    }

    #[test]
    fn kv_p07_kv_t14_only_what_writes_is_held_to_the_quota() {
        let reads = pb::TxnRequest {
            success: vec![
                op(Request::RequestRange(pb::RangeRequest::default())),
                op(Request::RequestDeleteRange(
                    pb::DeleteRangeRequest::default(),
                )),
            ],
            ..Default::default()
        };
        assert_eq!(txn_cost(&reads), 0);
        assert!(fits(0, 100, 10));
        assert!(fits(9, 0, 10));
        assert!(!fits(10, 0, 10));
        assert!(!fits(1, u64::MAX, 10));
    }
}
