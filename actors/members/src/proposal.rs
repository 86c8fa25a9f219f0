//! What a member proposes about itself and its cluster.

use crate::reconciler::MembersConfig;
use crate::version::ClusterVersion;
use rusd_proto::etcdserverpb::alarm_request::AlarmAction;
use rusd_proto::etcdserverpb::{AlarmRequest, AlarmType, InternalRaftRequest};
use rusd_proto::membershippb::{Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest};

/// A change of the replicated state that this member asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proposal {
    /// Show this member's name and client URLs.
    Publish,
    /// Set the cluster version.
    Version(ClusterVersion),
    /// Raise an alarm of this member.
    Alarm(AlarmType),
}

/// What a proposal is about: at most one for each is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    Publish,
    Version,
    Alarm(AlarmType),
}

impl Proposal {
    pub(crate) fn subject(&self) -> Subject {
        match self {
            Self::Publish => Subject::Publish,
            Self::Version(_) => Subject::Version,
            Self::Alarm(kind) => Subject::Alarm(*kind),
        }
    }

    /// The request that asks for it, on behalf of the member that `config` describes.
    pub fn request(&self, config: &MembersConfig) -> InternalRaftRequest {
        let mut request = InternalRaftRequest::default();
        match self {
            Self::Publish => {
                request.cluster_member_attr_set = Some(ClusterMemberAttrSetRequest {
                    member_id: config.member.0,
                    member_attributes: Some(Attributes {
                        name: config.name.clone(),
                        client_urls: config.client_urls.clone(),
                    }),
                });
            }
            Self::Version(version) => {
                request.cluster_version_set = Some(ClusterVersionSetRequest {
                    ver: version.to_string(),
                });
            }
            Self::Alarm(kind) => {
                request.alarm = Some(AlarmRequest {
                    action: AlarmAction::Activate as i32,
                    member_id: config.member.0,
                    alarm: *kind as i32,
                });
            }
        }
        request
    }
}
