//! Replies and changes as text, for scripts.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fmt::Write;

use bytes::Bytes;
use prost::Message;
use rusd_proto::etcdserverpb as pb;
use rusd_proto::etcdserverpb::response_op::Response;
use rusd_proto::mvccpb::KeyValue;
use rusd_proto::{ApplyReply, ApplyResult};
use rusd_state::{Applied, Effect};
use rusd_storage::{Change, ChangeKind};

pub fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// `key=value cCREATED mMODIFIED vVERSION lLEASE`, without what is 0.
pub fn kv(marshalled: &Bytes) -> String {
    let kv = KeyValue::decode(marshalled.clone()).unwrap();
    let mut shown = format!("{}={}", text(&kv.key), text(&kv.value));
    for (mark, number) in [
        ('c', kv.create_revision),
        ('m', kv.mod_revision),
        ('v', kv.version),
        ('l', kv.lease),
    ] {
        if number != 0 {
            write!(shown, " {mark}{number}").unwrap();
        }
    }
    shown
}

fn header(header: &Option<pb::ResponseHeader>) -> String {
    match header {
        Some(header) => {
            assert_eq!(
                (header.cluster_id, header.member_id, header.raft_term),
                (0, 0, 0)
            );
            format!("rev={}", header.revision)
        }
        None => "no-header".to_owned(),
    }
}

pub fn range(response: &pb::RangeResponse) -> String {
    let mut shown = format!(
        "range {} count={}",
        header(&response.header),
        response.count
    );
    if response.more {
        shown.push_str(" more");
    }
    for marshalled in &response.kvs {
        write!(shown, "\n  {}", kv(marshalled)).unwrap();
    }
    shown
}

fn put(response: &pb::PutResponse) -> String {
    let mut shown = format!("put {}", header(&response.header));
    if !response.prev_kv.is_empty() {
        write!(shown, "\n  prev {}", kv(&response.prev_kv)).unwrap();
    }
    shown
}

fn delete(response: &pb::DeleteRangeResponse) -> String {
    let mut shown = format!(
        "delete {} deleted={}",
        header(&response.header),
        response.deleted
    );
    for marshalled in &response.prev_kvs {
        write!(shown, "\n  prev {}", kv(marshalled)).unwrap();
    }
    shown
}

pub fn txn(response: &pb::TxnResponse) -> String {
    let branch = if response.succeeded {
        "success"
    } else {
        "failure"
    };
    let mut shown = format!("txn {} {branch}", header(&response.header));
    for op in &response.responses {
        let op = match &op.response {
            Some(Response::ResponseRange(response)) => range(response),
            Some(Response::ResponsePut(response)) => put(response),
            Some(Response::ResponseDeleteRange(response)) => delete(response),
            Some(Response::ResponseTxn(response)) => txn(response),
            None => "nothing".to_owned(),
        };
        write!(shown, "\n  {}", op.replace('\n', "\n  ")).unwrap();
    }
    shown
}

fn alarms(response: &pb::AlarmResponse) -> String {
    let mut shown = format!("alarm {}", header(&response.header));
    for alarm in &response.alarms {
        write!(shown, "\n  {:?} member={}", alarm.alarm(), alarm.member_id).unwrap();
    }
    shown
}

pub fn result(result: &ApplyResult) -> String {
    match result {
        Ok(ApplyReply::Put(response)) => put(response),
        Ok(ApplyReply::DeleteRange(response)) => delete(response),
        Ok(ApplyReply::Txn(response)) => txn(response),
        Ok(ApplyReply::Compact(response)) => format!("compact {}", header(&response.header)),
        Ok(ApplyReply::LeaseGrant(response)) => {
            format!(
                "grant {} id={} ttl={}",
                header(&response.header),
                response.id,
                response.ttl
            )
        }
        Ok(ApplyReply::LeaseRevoke(response)) => format!("revoke {}", header(&response.header)),
        Ok(ApplyReply::LeaseCheckpoint(response)) => {
            format!("checkpoint {}", header(&response.header))
        }
        Ok(ApplyReply::Alarm(response)) => alarms(response),
        Ok(ApplyReply::Done) => "done".to_owned(),
        Err(error) => format!("error {:?}: {error}", error.code()),
    }
}

fn change(change: &Change) -> String {
    let sign = match change.kind {
        ChangeKind::Put => '+',
        ChangeKind::Delete => '-',
    };
    let mut shown = format!("{sign} {} {}", change.revision, kv(&change.record));
    if let Some(previous) = change.previous {
        write!(shown, " (was {previous})").unwrap();
    }
    shown
}

fn effect(effect: &Effect) -> String {
    match effect {
        Effect::LeaseGranted { id, ttl_s } => format!("lease {} granted ttl={ttl_s}", id.0),
        Effect::LeaseRevoked { id } => format!("lease {} revoked", id.0),
        Effect::LeaseCheckpointed {
            id,
            remaining_ttl_s,
        } => {
            format!("lease {} checkpointed remaining={remaining_ttl_s}", id.0)
        }
        Effect::AlarmsChanged => "alarms changed".to_owned(),
        Effect::MembersChanged => "members changed".to_owned(),
        Effect::ConfApplied(Some(change)) => format!("conf change {change:?}"),
        Effect::ConfApplied(None) => "conf change rejected".to_owned(),
        Effect::Compacted { revision, physical } => {
            format!("compacted {revision} physical={physical}")
        }
    }
}

pub fn applied(applied: &Applied) -> String {
    let mut shown = result(&applied.result);
    if let Some(revision) = applied.revision {
        write!(shown, "\nrevision {revision}").unwrap();
    }
    for c in &applied.changes {
        write!(shown, "\n  {}", change(c)).unwrap();
    }
    for e in &applied.effects {
        write!(shown, "\n  ! {}", effect(e)).unwrap();
    }
    shown
}
