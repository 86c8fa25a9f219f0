//! Golden scripts of the members actor's core: `scripts/` holds them.
//!
//! The member is 1, named `n1`. Commands: `new [version=3.N]`, `changed [members=1/2] [published=true] [version=V]
//! [NOSPACE=ID] [CORRUPT=ID]` (what the replicated state says now), `lead`, `follow`, `lost` (no leader is known),
//! `raise KIND`, `tick MS`, and `ok PROPOSAL` or `fail PROPOSAL` for the outcome of a proposal: `publish`, `version`
//! or an alarm. What is proposed then is shown after each.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use goldenscript::{Command, Context};
use rusd_kit::Args;
use rusd_members::reconciler::Reconciler;
use rusd_members::version::ClusterVersion;
use rusd_members::{MembersConfig, Proposal};
use rusd_messages::{MemberId, Published, Role, RoleChanged, Term};
use rusd_proto::etcdserverpb::{AlarmMember, AlarmType, Member};
use std::error::Error;
use std::fmt::Write;
use std::sync::Arc;

struct Runner {
    reconciler: Reconciler,
    in_flight: Vec<Proposal>,
}

const URL: &str = "http://10.0.0.1:2379";

impl Runner {
    fn new(minor: u32) -> Self {
        Self {
            reconciler: Reconciler::new(MembersConfig {
                member: MemberId(1),
                name: "n1".to_owned(),
                client_urls: vec![URL.to_owned()],
                cluster_version: ClusterVersion { major: 3, minor },
            }),
            in_flight: Vec::new(),
        }
    }

    fn role(&mut self, role: Role, leader: Option<u64>) {
        self.reconciler.role(&RoleChanged {
            role,
            term: Term(1),
            leader: leader.map(MemberId),
        });
    }

    fn changed(&mut self, options: &[(&str, &str)], output: &mut String) {
        let mut published = Published::default();
        let mut attributes = false;
        for (name, value) in options {
            match *name {
                "members" => {
                    published.members.extend(value.split('/').map(|id| Member {
                        id: id.parse().unwrap(),
                        ..Member::default()
                    }));
                }
                "published" => attributes = true,
                "version" => published.cluster_version = Some((*value).to_owned()),
                kind => published.alarms.push(AlarmMember {
                    member_id: value.parse().unwrap(),
                    alarm: AlarmType::from_str_name(kind).unwrap() as i32,
                }),
            }
        }
        for member in published
            .members
            .iter_mut()
            .filter(|member| attributes && member.id == 1)
        {
            member.name = "n1".to_owned();
            member.client_ur_ls = vec![URL.to_owned()];
        }
        if let Err(too_old) = self.reconciler.changed(Arc::new(published)) {
            writeln!(output, "{} > {}", too_old.cluster, too_old.member).unwrap();
        }
    }

    fn finished(&mut self, what: &str, succeeded: bool) {
        let found = self.in_flight.iter().position(|proposal| match proposal {
            Proposal::Publish => what == "publish",
            Proposal::Version(_) => what == "version",
            Proposal::Alarm(kind) => what == kind.as_str_name(),
        });
        let proposal = self.in_flight.remove(found.expect("it was proposed"));
        self.reconciler.finished(&proposal, succeeded);
    }
}

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let args = Args::new(command);
        let word = args.word(0);
        let mut output = String::new();
        match args.name() {
            "new" => {
                let version: String = args.option("version");
                *self = Self::new(version.trim_start_matches("3.").parse()?);
            }
            "changed" => self.changed(args.options(), &mut output),
            "lead" => self.role(Role::Leader, Some(1)),
            "follow" => self.role(Role::Follower, Some(2)),
            "lost" => self.role(Role::Follower, None),
            "raise" => self
                .reconciler
                .raise(AlarmType::from_str_name(word).unwrap()),
            "tick" => self.reconciler.tick(word.parse()?),
            "ok" => self.finished(word, true),
            "fail" => self.finished(word, false),
            other => return Err(format!("unknown command {other}").into()),
        }
        if self.reconciler.just_joined() {
            writeln!(output, "joined")?;
        }
        for proposal in self.reconciler.proposals() {
            match &proposal {
                Proposal::Publish => writeln!(output, "-> publish")?,
                Proposal::Version(version) => writeln!(output, "-> version {version}")?,
                Proposal::Alarm(kind) => writeln!(output, "-> alarm {}", kind.as_str_name())?,
            }
            self.in_flight.push(proposal);
        }
        Ok(output)
    }
}

rusd_kit::run_dir!("tests/scripts", Runner::new(7), [
    m_01_alarms_are_raised_once
    o_14_cluster_version
    o_24_publishing
]);
