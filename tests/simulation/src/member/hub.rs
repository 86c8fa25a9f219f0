//! What the shell of the watch hub does, and the thread that reads past events for it.

use super::Process;
use super::message::{Input, Message};
use crate::host::Host;
use crate::network::Party;
use rusd_messages::Port;
use rusd_messages::reader::History;
use rusd_messages::watch::HistoryPage;
use rusd_mvcc::readers::history;
use rusd_watch::Hub;

pub struct WatchHub {
    hub: Hub,
    /// It comes back soon for what is left.
    continuing: bool,
    /// Whatever is named as the receiver of a page: here the host hands pages on.
    page: Port<HistoryPage>,
}

impl WatchHub {
    pub fn start(host: &Host) -> Self {
        Self {
            hub: Hub::new(host.settings.hub.clone()),
            continuing: false,
            page: Port::probe(1).0,
        }
    }
}

impl Process {
    pub(super) fn hub_message(&mut self, message: Message, host: &mut Host) {
        let now_ms = self.now_ms(host);
        let hub = &mut self.hub.hub;
        match message {
            Message::Tick => {
                hub.tick(now_ms);
            }
            Message::Committed(committed) => {
                self.mvcc.committed_taken();
                hub.committed(committed.revisions);
            }
            Message::Lagged(lagged) => {
                self.mvcc.lagged_taken();
                hub.lagged(lagged.through);
            }
            Message::Compacted(compacted) => hub.compacted(compacted.revision),
            Message::OpenStream(open) => {
                if hub.streams() == 0 {
                    hub.lagged(self.demand.first_stream());
                }
                hub.open(open.stream, open.sink, open.stream.0);
            }
            Message::FromStream(from) => hub.request(from.stream, from.request),
            Message::SinkReady(stream) => hub.sink_ready(stream),
            Message::CloseStream(stream) => hub.close(stream),
            Message::HistoryPage(page) => hub.history_page(page.token, page.result),
            _ => {}
        }
        self.turn_hub(host);
    }

    pub(super) fn continue_hub(&mut self, host: &mut Host) {
        self.hub.continuing = false;
        self.hub.hub.pass_on();
        self.turn_hub(host);
    }

    fn turn_hub(&mut self, host: &mut Host) {
        let hub = &mut self.hub.hub;
        self.demand.set(hub.streams(), hub.previous_wanted());
        hub.turn();
        hub.check();
        // Clients are polled.
        drop(hub.wakers());
        if let Some(request) = hub.history_request() {
            if host.random.percent(5) {
                hub.history_refused(request.token);
            } else {
                host.send(Party::Hub, Party::History, Message::History(request));
            }
        }
        if !self.hub.continuing && (hub.has_pending() || hub.has_more()) {
            self.hub.continuing = true;
            host.later(host.settings.hop_us, Input::ContinueHub);
        }
    }

    pub(super) fn history_message(&mut self, message: Message, host: &mut Host) {
        let Message::History(request) = message else {
            return;
        };
        let request = History {
            token: request.token,
            from_revision: request.from_revision,
            through_revision: request.through_revision,
            max_bytes: request.max_bytes,
            with_previous: request.with_previous,
            reply: self.hub.page.clone(),
        };
        let page = HistoryPage {
            token: request.token,
            result: history(&self.views, &request).expect("the engine is open"),
        };
        host.send(Party::History, Party::Hub, Message::HistoryPage(page));
    }
}
