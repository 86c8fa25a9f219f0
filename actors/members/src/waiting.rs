//! Those who asked for an alarm and wait until it shows.

use rusd_messages::{MemberId, Published, Reply};
use rusd_proto::etcdserverpb::AlarmType;

/// Callers who may wait: as many as may wait for an entry of the log. Those beyond it are dropped, which answers them
/// at once: they may see the alarm a moment later.
const WAITING_MAX: usize = 16_384;

/// Callers by the alarm of this member that they wait for.
#[derive(Debug)]
pub(crate) struct Waiting {
    member: MemberId,
    callers: Vec<(AlarmType, Reply<()>)>,
}

impl Waiting {
    /// Nobody waits for an alarm of `member`.
    pub(crate) fn new(member: MemberId) -> Self {
        Self {
            member,
            callers: Vec::new(),
        }
    }

    /// Answers at once if the alarm shows already, and otherwise when it does.
    pub(crate) fn wait(&mut self, alarm: AlarmType, reply: Reply<()>, published: &Published) {
        if published.has_alarm_of(self.member, alarm) {
            return reply.send(());
        }
        if self.callers.len() >= WAITING_MAX {
            self.callers.retain(|(_, reply)| reply.is_wanted());
        }
        if self.callers.len() < WAITING_MAX {
            self.callers.push((alarm, reply));
        }
    }

    /// Answers those whose alarm shows now.
    pub(crate) fn published(&mut self, published: &Published) {
        let member = self.member;
        let raised = self
            .callers
            .extract_if(.., |(kind, _)| published.has_alarm_of(member, *kind));
        raised.for_each(|(_, reply)| reply.send(()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusd_messages::{Dropped, Pending};

    #[test]
    fn those_who_have_left_make_room_for_those_who_come() {
        let mut waiting = Waiting::new(MemberId(1));
        let published = Published::default();
        let mut ask = || -> Pending<()> {
            let (reply, pending) = Reply::channel();
            waiting.wait(AlarmType::Nospace, reply, &published);
            pending
        };
        let mut callers: Vec<_> = (0..WAITING_MAX).map(|_| ask()).collect();
        assert_eq!(ask().now(), Some(Err(Dropped)));
        callers.pop();
        assert_eq!(ask().now(), None);
    }
}
