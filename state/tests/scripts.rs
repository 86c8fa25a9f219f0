//! Golden scripts: `scripts/` holds one per row of the contract, named after it.
//!
//! Commands: `fill N` (puts k00 to kN), `put KEY VALUE`, `del KEY [END]`, `get KEY [END]`, `stream KEY END`, `compact
//! REVISION`, `step`, `grant ID TTL`, `revoke ID`, `checkpoint ID REMAINING`, `attached ID`, `leases`, `alarm ACTION
//! KIND MEMBER`, `conf CHANGE ID [URL]`, `attributes ID NAME URL`, `version VERSION`, `downgrade [VERSION]`, `members`,
//! `restart`, `log KIND`. Options are written `name=value`, flags as `name=true`. A transaction is `begin`, any number
//! of `if TARGET KEY RESULT OPERAND`, operations after `then` and `else`, and `end`; it nests. Every request is
//! validated first, as a handler does; `raw=true` on `end` skips that, as a foreign log would.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
#[path = "common/show.rs"]
mod show;

use std::error::Error;
use std::fmt::Write;

use bytes::Bytes;
use common::Node;
use goldenscript::{Command, Context};
use prost::Message;
use rusd_kit::{Args, latin};
use rusd_model::request;
use rusd_proto::EtcdError;
use rusd_proto::conf_change::{Change, ConfChange};
use rusd_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use rusd_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use rusd_proto::etcdserverpb::request_op::Request;
use rusd_proto::etcdserverpb::{self as pb, InternalRaftRequest};
use rusd_proto::ids::{LeaseId, MemberId, RequestId};
use rusd_proto::membershippb;
use rusd_state::EntryKind;
use rusd_state::kv::range::{self, Pager};
use rusd_state::kv::{txn, validate};
use rusd_storage::ReadAt;

type Outcome = Result<String, Box<dyn Error>>;

fn put(args: &Args) -> pb::PutRequest {
    pb::PutRequest {
        key: args.bytes(0),
        value: args.bytes(1),
        lease: args.option("lease"),
        prev_kv: args.option("prev"),
        ignore_value: args.option("ignore_value"),
        ignore_lease: args.option("ignore_lease"),
    }
}

fn delete(args: &Args) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: args.bytes(0),
        range_end: args.bytes(1),
        prev_kv: args.option("prev"),
    }
}

fn range(args: &Args) -> pb::RangeRequest {
    let order: String = args.option("order");
    let target: String = args.option("target");
    pb::RangeRequest {
        key: args.bytes(0),
        range_end: args.bytes(1),
        limit: args.option("limit"),
        revision: args.option("rev"),
        sort_order: enumerated(&order, |name| {
            SortOrder::from_str_name(name).map(|o| o as i32)
        }),
        sort_target: enumerated(&target, |name| {
            SortTarget::from_str_name(name).map(|t| t as i32)
        }),
        serializable: args.option("serializable"),
        keys_only: args.option("keys_only"),
        count_only: args.option("count_only"),
        min_mod_revision: args.option("min_mod"),
        max_mod_revision: args.option("max_mod"),
        min_create_revision: args.option("min_create"),
        max_create_revision: args.option("max_create"),
    }
}

/// `if TARGET KEY RESULT OPERAND [end=KEY] [union=TARGET]`
fn compare(args: &Args) -> pb::Compare {
    let target = args.word(0).to_uppercase();
    let union = match args.option::<String>("union") {
        name if name.is_empty() => target.clone(),
        name => name.to_uppercase(),
    };
    let operand = args.words().get(3).map(|_| match union.as_str() {
        "VERSION" => TargetUnion::Version(args.number(3)),
        "CREATE" => TargetUnion::CreateRevision(args.number(3)),
        "MOD" => TargetUnion::ModRevision(args.number(3)),
        "LEASE" => TargetUnion::Lease(args.number(3)),
        _ => TargetUnion::Value(args.bytes(3)),
    });
    let result = match args.word(2) {
        "eq" => CompareResult::Equal as i32,
        "ne" => CompareResult::NotEqual as i32,
        "lt" => CompareResult::Less as i32,
        "gt" => CompareResult::Greater as i32,
        other => other.parse().unwrap(),
    };
    pb::Compare {
        result,
        target: CompareTarget::from_str_name(&target)
            .map_or_else(|| target.parse().unwrap(), |t| t as i32),
        key: args.bytes(1),
        target_union: operand,
        range_end: latin(&args.option::<String>("end")),
    }
}

fn enumerated(name: &str, by_name: impl Fn(&str) -> Option<i32>) -> i32 {
    if name.is_empty() {
        return 0;
    }
    by_name(&name.to_uppercase()).unwrap_or_else(|| name.parse().unwrap())
}

/// A transaction being written down.
#[derive(Default)]
struct OpenTxn {
    request: pb::TxnRequest,
    in_failure: bool,
}

struct Runner {
    node: Node,
    open: Vec<OpenTxn>,
}

impl Runner {
    fn new() -> Self {
        Self {
            node: Node::new(),
            open: Vec::new(),
        }
    }

    fn push(&mut self, request: Option<Request>) -> Outcome {
        let open = self.open.last_mut().unwrap();
        let ops = if open.in_failure {
            &mut open.request.failure
        } else {
            &mut open.request.success
        };
        ops.push(pb::RequestOp { request });
        Ok(String::new())
    }

    fn apply(&mut self, request: InternalRaftRequest) -> Outcome {
        let applied = self.node.apply(request)?;
        Ok(show::applied(&applied))
    }

    fn checked(&mut self, checked: Result<(), EtcdError>, request: InternalRaftRequest) -> Outcome {
        match checked {
            Ok(()) => self.apply(request),
            Err(error) => Ok(format!("refused {:?}: {error}", error.code())),
        }
    }

    fn end(&mut self, raw: bool, max_txn_ops: usize) -> Outcome {
        let OpenTxn { request, .. } = self.open.pop().unwrap();
        if !self.open.is_empty() {
            return self.push(Some(Request::RequestTxn(request)));
        }
        if !raw && let Err(error) = validate::txn(&request, max_txn_ops) {
            return Ok(format!("refused {:?}: {error}", error.code()));
        }
        if txn::is_read_only(&request) {
            let where_ = if txn::is_serializable(&request) {
                "local"
            } else {
                "linearizable"
            };
            return Ok(match txn::read_only(self.node.machine.keys(), &request) {
                Ok(response) => format!("{where_} {}", show::txn(&response)),
                Err(error) => format!("{where_} error {error}"),
            });
        }
        self.apply(request::txn(request))
    }

    fn get(&self, request: &pb::RangeRequest) -> Outcome {
        if let Err(error) = validate::range(request) {
            return Ok(format!("refused {:?}: {error}", error.code()));
        }
        Ok(match range::range(self.node.machine.keys(), request) {
            Ok(response) => show::range(&response),
            Err(error) => format!("error {error}"),
        })
    }

    /// Chunks, one after the other; `then_put=KEY` writes after the first, `then_compact=REVISION` compacts.
    fn stream(&mut self, args: &Args) -> Outcome {
        let request = range(args);
        if let Err(error) = validate::range_stream(&request) {
            return Ok(format!("refused {:?}: {error}", error.code()));
        }
        let target: usize = args.option("bytes");
        let mut pager = Pager::new(self.node.machine.keys(), request, target);
        let mut shown = String::new();
        while !pager.is_finished() {
            match pager.next(self.node.machine.keys()) {
                Ok(chunk) if args.option("sizes") => {
                    write!(shown, "{}", chunk.kvs.len())?;
                    if pager.is_finished() {
                        let last = pb::RangeResponse {
                            kvs: vec![],
                            ..chunk
                        };
                        write!(shown, " {}", show::range(&last))?;
                    }
                    shown.push('\n');
                }
                Ok(chunk) => writeln!(shown, "{}", show::range(&chunk))?,
                Err(error) => {
                    writeln!(shown, "error {error}")?;
                    break;
                }
            }
            let put: String = args.option("then_put");
            if !put.is_empty() {
                let request = pb::PutRequest {
                    key: latin(&put),
                    ..Default::default()
                };
                self.node.apply(request::put(request))?;
            }
            let revision: i64 = args.option("then_compact");
            if revision != 0 {
                let request = pb::CompactionRequest {
                    revision,
                    physical: false,
                };
                self.node.apply(request::compact(request))?;
            }
        }
        Ok(shown)
    }

    fn conf(&mut self, args: &Args) -> Outcome {
        let id = args.number(1);
        let member = pb::Member {
            id,
            peer_ur_ls: args.words()[2..]
                .iter()
                .map(|url| show::text(url.as_bytes()))
                .collect(),
            is_learner: args.word(0) == "learner",
            ..Default::default()
        };
        let change = match args.word(0) {
            "add" | "learner" => Change::Add(member),
            "promote" => Change::Promote,
            "update" => Change::Update(member),
            _ => Change::Remove,
        };
        let change = ConfChange {
            id: MemberId(id),
            change,
        };
        let applied = self
            .node
            .apply_data(EntryKind::ConfChange, change.encode(RequestId(1)))?;
        Ok(show::applied(&applied))
    }

    fn members(&self) -> Outcome {
        let members = self.node.machine.members();
        let mut shown = format!(
            "version={:?}",
            members.cluster_version().unwrap_or_default()
        );
        if let Some(target) = members.downgrade_target() {
            write!(shown, " downgrade={target:?}")?;
        }
        for member in members.list() {
            let learner = if member.is_learner { " learner" } else { "" };
            write!(
                shown,
                "\n{} {:?} peers={:?} clients={:?}{learner}",
                member.id, member.name, member.peer_ur_ls, member.client_ur_ls
            )?;
        }
        Ok(shown)
    }

    fn attached(&self, id: i64) -> Outcome {
        let keys = self.node.machine.leases().keys(LeaseId(id));
        Ok(match keys {
            Some(keys) => format!("{:?}", keys.map(|key| show::text(key)).collect::<Vec<_>>()),
            None => "no such lease".to_owned(),
        })
    }

    fn leases(&self) -> Outcome {
        let mut leases: Vec<_> = self.node.machine.leases().iter().collect();
        leases.sort_by_key(|(id, _)| *id);
        let shown = leases.iter().map(|(id, lease)| {
            format!(
                "{} ttl={} remaining={}\n",
                id.0, lease.ttl_s, lease.remaining_ttl_s
            )
        });
        Ok(format!(
            "{} leases\n{}",
            leases.len(),
            shown.collect::<String>()
        ))
    }

    /// Entries that no client of this server could have proposed.
    fn log(&mut self, kind: &str) -> Outcome {
        let mut request = InternalRaftRequest::default();
        let mut data = None;
        match kind {
            "empty" => data = Some(Bytes::new()),
            "garbage" => data = Some(Bytes::from_static(b"\xff\xff\xff")),
            "field-1400" => data = Some(Bytes::from_static(b"\xc2\x57\x00")),
            "header" => request.header = Some(pb::RequestHeader::default()),
            "range" => request.range = Some(pb::RangeRequest::default()),
            "auth_enable" => request.auth_enable = Some(pb::AuthEnableRequest {}),
            "authenticate" => {
                request.authenticate = Some(pb::InternalAuthenticateRequest::default())
            }
            "auth_status" => request.auth_status = Some(pb::AuthStatusRequest {}),
            other => panic!("{other}"),
        }
        let data = data.unwrap_or_else(|| request.encode_to_vec().into());
        let applied = self.node.apply_data(EntryKind::Request, data)?;
        Ok(show::applied(&applied))
    }
}

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Outcome {
        let args = Args::new(command);
        let in_txn = !self.open.is_empty();
        match args.name() {
            "fill" => {
                for n in 0..args.number::<usize>(0) {
                    let request = pb::PutRequest {
                        key: format!("k{n:02}").into(),
                        value: "v".into(),
                        ..Default::default()
                    };
                    self.node.apply(request::put(request))?;
                }
                Ok(format!("revision {}", self.node.machine.keys().revision()))
            }
            "begin" => {
                self.open.push(OpenTxn::default());
                Ok(String::new())
            }
            "if" => {
                self.open
                    .last_mut()
                    .unwrap()
                    .request
                    .compare
                    .push(compare(&args));
                Ok(String::new())
            }
            "then" => Ok(String::new()),
            "else" => {
                self.open.last_mut().unwrap().in_failure = true;
                Ok(String::new())
            }
            "nothing" => self.push(None),
            "end" => {
                let max_txn_ops = match args.option("max_txn_ops") {
                    0 => 128,
                    max => max,
                };
                self.end(args.option("raw"), max_txn_ops)
            }
            "put" if in_txn => self.push(Some(Request::RequestPut(put(&args)))),
            "del" if in_txn => self.push(Some(Request::RequestDeleteRange(delete(&args)))),
            "get" if in_txn => self.push(Some(Request::RequestRange(range(&args)))),
            "put" => self.checked(validate::put(&put(&args)), request::put(put(&args))),
            "del" => self.checked(
                validate::delete_range(&delete(&args)),
                request::delete(delete(&args)),
            ),
            "get" => self.get(&range(&args)),
            "stream" => self.stream(&args),
            "compact" => self.apply(request::compact(pb::CompactionRequest {
                revision: args.number(0),
                physical: args.option("physical"),
            })),
            "step" => {
                let step = self.node.machine.compact_step(1000)?;
                Ok(format!(
                    "removed {} finished={}",
                    step.removed, step.finished
                ))
            }
            "grant" => self.apply(request::grant(args.number(0), args.number(1))),
            "revoke" => self.apply(request::revoke(args.number(0))),
            "checkpoint" => self.apply(request::checkpoint(args.number(0), args.number(1))),
            "attached" => self.attached(args.number(0)),
            "leases" => self.leases(),
            "alarm" => {
                let action = enumerated(args.word(0), |name| {
                    pb::alarm_request::AlarmAction::from_str_name(name).map(|action| action as i32)
                });
                let kind = enumerated(args.word(1), |name| {
                    pb::AlarmType::from_str_name(name).map(|kind| kind as i32)
                });
                self.apply(request::alarm(action, kind, args.number(2)))
            }
            "conf" => self.conf(&args),
            "attributes" => self.apply(InternalRaftRequest {
                cluster_member_attr_set: Some(membershippb::ClusterMemberAttrSetRequest {
                    member_id: args.number(0),
                    member_attributes: Some(membershippb::Attributes {
                        name: args.word(1).to_owned(),
                        client_urls: vec![args.word(2).to_owned()],
                    }),
                }),
                ..Default::default()
            }),
            "version" => self.apply(InternalRaftRequest {
                cluster_version_set: Some(membershippb::ClusterVersionSetRequest {
                    ver: args.word(0).to_owned(),
                }),
                ..Default::default()
            }),
            "downgrade" => self.apply(InternalRaftRequest {
                downgrade_info_set: Some(membershippb::DowngradeInfoSetRequest {
                    enabled: !args.words().is_empty(),
                    ver: args.word(0).to_owned(),
                }),
                ..Default::default()
            }),
            "members" => self.members(),
            "restart" => {
                self.node.flush();
                self.node.restart();
                Ok(format!("applied {}", self.node.machine.applied().0))
            }
            "log" => self.log(args.word(0)),
            other => Err(format!("unknown command {other}").into()),
        }
    }

    fn end_block(&mut self, _: &goldenscript::Block) -> Outcome {
        assert!(self.open.is_empty(), "a transaction was not ended");
        Ok(String::new())
    }
}

rusd_kit::run_dir!("tests/scripts", Runner::new(), [
    kv_key_ranges
    kv_r01_empty_key
    kv_r02_limit
    kv_r03_revision
    kv_r04_header_revision
    kv_r05_sort
    kv_r07_keys_only
    kv_r08_count_only
    kv_r09_revision_filters
    kv_r10_kv_r11_count_and_more
    kv_r12_missing_key
    kv_s02_refusals
    kv_s03_chunks
    kv_s04_snapshot
    kv_s05_compaction
    kv_s06_chunk_sizes
    kv_s07_limit
    kv_s08_count_only_keys_only_and_nothing
    kv_p01_versions
    kv_p02_lease
    kv_p03_prev_kv
    kv_p04_ignore_value
    kv_p05_ignore_lease
    kv_d01_one_revision_in_key_order
    kv_d02_nothing_deleted
    kv_d03_prev_kvs
    kv_d04_not_blocked_by_nospace
    kv_t01_branches_and_order
    kv_t02_targets_and_results
    kv_t03_missing_key
    kv_t04_ranges_in_compares
    kv_t05_nested_compares_see_the_state_before
    kv_t06_one_revision
    kv_t07_duplicate_keys
    kv_t08_max_txn_ops
    kv_t09_operations_are_validated
    kv_t10_checked_before_any_effect
    kv_t11_read_only
    kv_t13_explicit_revision_in_a_write_txn
    kv_c01_bounds
    kv_c02_what_is_kept
    kv_c05_restart
    l_01_grant
    l_02_no_revision_and_nospace
    l_03_revoke
    l_10_checkpoint
    l_11_restart
    m_01_nospace
    m_01_corrupt
    m_01_alarms_persist
    c_01_member_add
    c_03_member_remove
    c_04_member_update
    c_06_member_promote
    o_14_o_24_version_and_attributes
    log_what_cannot_be_applied
]);
