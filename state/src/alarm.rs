//! Alarms: conditions raised for a member, that stay until they are disarmed (M-01).
//!
//! They take effect in log order: an entry behind the one that raises an alarm feels it, on every member alike.
//! Stored in the alarm tree as etcd stores them: the marshalled `AlarmMember` is the key, the value is empty.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use prost::Message;
use rusd_proto::EtcdError;
use rusd_proto::etcdserverpb as pb;
use rusd_proto::etcdserverpb::alarm_request::AlarmAction;
use rusd_proto::etcdserverpb::{AlarmMember, AlarmType, InternalRaftRequest};
use rusd_storage::engine::{Direction, Engine, Tree, WriteBatch};

use crate::error::StateError;
use crate::kv::quota;

/// The raised alarms.
#[derive(Debug, Default)]
pub struct Alarms {
    /// Kind and member, so that lists come out the same everywhere.
    raised: BTreeSet<(i32, u64)>,
}

impl Alarms {
    /// The raised alarms of a kind; all of them for `AlarmType::None`.
    pub fn list(&self, kind: i32) -> Vec<AlarmMember> {
        self.raised
            .iter()
            .filter(|&&(raised, _)| kind == AlarmType::None as i32 || raised == kind)
            .map(|&(alarm, member_id)| AlarmMember { member_id, alarm })
            .collect()
    }

    /// Whether any member has raised an alarm of this kind.
    pub fn has(&self, kind: AlarmType) -> bool {
        !self.raised.is_empty()
            && self
                .raised
                .range((kind as i32, 0)..=(kind as i32, u64::MAX))
                .next()
                .is_some()
    }

    /// What the raised alarms say to a request: CORRUPT stops everything on keys and leases, NOSPACE what takes
    /// space.
    pub(crate) fn admit(&self, request: &InternalRaftRequest) -> Result<(), EtcdError> {
        if self.raised.is_empty() {
            return Ok(());
        }
        let touches_data = request.put.is_some()
            || request.delete_range.is_some()
            || request.txn.is_some()
            || request.compaction.is_some()
            || request.lease_grant.is_some()
            || request.lease_revoke.is_some();
        if touches_data && self.has(AlarmType::Corrupt) {
            return Err(EtcdError::Corrupt);
        }
        let takes_space = request.put.is_some()
            || request.lease_grant.is_some()
            || request
                .txn
                .as_ref()
                .is_some_and(|txn| quota::txn_cost(txn) > 0);
        if takes_space && self.has(AlarmType::Nospace) {
            return Err(EtcdError::NoSpace);
        }
        Ok(())
    }

    /// Carries out an alarm request; the alarms of the reply, and whether anything changed.
    pub(crate) fn apply(
        &mut self,
        request: &pb::AlarmRequest,
        batch: &mut WriteBatch,
    ) -> (Vec<AlarmMember>, bool) {
        let alarm = AlarmMember {
            member_id: request.member_id,
            alarm: request.alarm,
        };
        let place = (alarm.alarm, alarm.member_id);
        match AlarmAction::try_from(request.action) {
            Ok(AlarmAction::Get) => (self.list(request.alarm), false),
            Ok(AlarmAction::Activate) if alarm.alarm != AlarmType::None as i32 => {
                let raised = self.raised.insert(place);
                if raised {
                    batch.put(Tree::Alarm.key(&alarm.encode_to_vec()), Vec::new());
                }
                (vec![alarm], raised)
            }
            Ok(AlarmAction::Deactivate) if self.raised.remove(&place) => {
                batch.delete(Tree::Alarm.key(&alarm.encode_to_vec()));
                (vec![alarm], true)
            }
            _ => (Vec::new(), false),
        }
    }

    /// Panics if an alarm of no kind is raised.
    pub(crate) fn check(&self) {
        assert!(!self.has(AlarmType::None), "an alarm of no kind is raised");
    }

    pub(crate) fn load(engine: &dyn Engine) -> Result<Self, StateError> {
        let mut alarms = Self::default();
        let mut failure = None;
        let (start, end) = Tree::Alarm.range();
        engine.scan(
            &start,
            &end,
            Direction::Forward,
            &mut |key, _| match AlarmMember::decode(key.get(1..).unwrap_or_default()) {
                Ok(alarm) => {
                    alarms.raised.insert((alarm.alarm, alarm.member_id));
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    failure = Some(StateError::Damaged {
                        tree: "alarm",
                        reason: error.to_string(),
                    });
                    ControlFlow::Break(())
                }
            },
        )?;
        match failure {
            Some(failure) => Err(failure),
            None => Ok(alarms),
        }
    }
}
