//! How an actor proposes: it encodes a request under an id of its own, tells Raft, and gets the outcome later.

use crate::raft::Propose;
use crate::{Pending, Port, Reply};
use rusd_proto::etcdserverpb::InternalRaftRequest;
use rusd_proto::request::{self, RequestIds};
use rusd_proto::{ApplyResult, EtcdError};
use std::sync::Arc;

/// Raft's port for proposals, with the ids that they are made under.
#[derive(Clone, Debug)]
pub struct Proposer {
    port: Port<Propose>,
    ids: Arc<RequestIds>,
    /// What an encoded request may have at most.
    bytes_max: usize,
}

impl Proposer {
    /// Proposals to `port`, under ids of this member.
    pub fn new(port: Port<Propose>, ids: Arc<RequestIds>) -> Self {
        Self {
            port,
            ids,
            bytes_max: usize::MAX,
        }
    }

    /// Refuses requests of more than so many bytes, as a client's are.
    pub fn with_limit(self, bytes_max: usize) -> Self {
        Self { bytes_max, ..self }
    }

    /// Proposes; what is returned resolves when the request is applied on this member. Errors: `RequestTooLarge`,
    /// `TooManyRequests` if Raft's queue is full, `Stopped` if Raft has stopped.
    pub fn propose(&self, request: InternalRaftRequest) -> Result<Pending<ApplyResult>, EtcdError> {
        let (reply, pending) = Reply::channel();
        self.tell(request, reply).map(|()| pending)
    }

    /// Proposes something whose outcome nobody waits for. Errors: as those of [`propose`](Self::propose).
    pub fn propose_and_forget(&self, request: InternalRaftRequest) -> Result<(), EtcdError> {
        self.tell(request, Reply::ignored())
    }

    fn tell(
        &self,
        request: InternalRaftRequest,
        reply: Reply<ApplyResult>,
    ) -> Result<(), EtcdError> {
        let id = self.ids.next();
        let data = request::encode(id, request);
        if data.len() > self.bytes_max {
            return Err(EtcdError::RequestTooLarge);
        }
        self.port
            .tell(Propose { id, data, reply })
            .map_err(|refused| match refused {
                crate::Refused::Full(_) => EtcdError::TooManyRequests,
                crate::Refused::Closed(_) => EtcdError::Stopped,
            })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rusd_proto::ids::MemberId;

    #[test]
    fn a_refused_proposal_says_why() {
        let (port, probe) = Port::probe(1);
        let proposer = Proposer::new(port, Arc::new(RequestIds::new(MemberId(1), 1)));
        let _pending = proposer.propose(InternalRaftRequest::default()).unwrap();
        let second = proposer.propose_and_forget(InternalRaftRequest::default());
        assert_eq!(second.unwrap_err(), EtcdError::TooManyRequests);
        let told = probe.next().unwrap();
        assert_eq!(request::request_id(&told.data), Some(told.id));
        drop(probe);
        let third = proposer.propose_and_forget(InternalRaftRequest::default());
        assert_eq!(third.unwrap_err(), EtcdError::Stopped);
    }
}
