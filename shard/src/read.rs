//! Answers to reads, and the lines of the host's directory.

use channel::channel::{ChannelView, ConnectionView, PhaseView};

use crate::limits;
use crate::mail::{Answer, Query};
use crate::outlet::{ChainRequest, DirectoryEntry, Outlet};
use crate::release::Outgoing;
use crate::shard::Shard;
use crate::table::SlotId;

impl Shard {
    pub(crate) fn read(&mut self, query: Query) -> Answer {
        match query {
            Query::Channel(owner) => {
                let slot = self.table.by_owner(owner);
                Answer::Channel(slot.map(|slot| Box::new(self.table.get(slot).channel.view())))
            }
            Query::ChannelById(id) => {
                let slot = self.table.by_id(&id);
                Answer::Channel(slot.map(|slot| Box::new(self.table.get(slot).channel.view())))
            }
            Query::Channels { node, after, max } => {
                let max = max.clamp(1, limits::MAX_PAGE);
                let slots: Vec<SlotId> = match node {
                    Some(node) => self.table.of_node(&node, after).take(max + 1).collect(),
                    None => self.table.after(after).take(max + 1).collect(),
                };
                let view = |slot: &SlotId| self.table.get(*slot).channel.view();
                let channels: Vec<ChannelView> = slots.iter().take(max).map(view).collect();
                let more = if slots.len() > max { channels.last().map(|last| last.owner) } else { None };
                Answer::Channels { channels, more }
            }
            Query::PublishJob(owner) => {
                let slot = self.table.by_owner(owner);
                let signer = self.env.signer.as_ref();
                let job = slot.and_then(|slot| self.table.get(slot).publish_job(signer));
                Answer::PublishJob(job.map(Box::new))
            }
        }
    }

    /// At a turn's end: what the host and the index of deadlines must know of the channels that changed.
    pub(crate) fn publish_touched(&mut self, outlet: &mut impl Outlet) {
        let mut touched = std::mem::take(&mut self.turn.touched);
        let height = self.env.height;
        for slot in touched.drain(..) {
            let hosted = self.table.get_mut(slot);
            hosted.touched = false;
            let view = hosted.channel.view();
            let entry = directory_entry(&view);
            let opens = view.phase == PhaseView::Opening && height > 0;
            let until = || height.saturating_add(limits::OPENING_PATIENCE_BLOCKS);
            hosted.opening_until = opens.then(|| hosted.opening_until.unwrap_or_else(until));
            let deadline = hosted.channel.next_deadline().or(hosted.opening_until);
            // Asked once a session: terms that were refused or lost are asked for again when the peer is back.
            let online = matches!(view.connection, ConnectionView::Online(_));
            let due = online && hosted.channel.wants_terms();
            let ask = due && !std::mem::replace(&mut hosted.terms_asked, true);
            hosted.terms_asked &= online;
            if hosted.published.as_ref() != Some(&entry) {
                hosted.published = Some(entry.clone());
                outlet.publish(entry);
            }
            let owner = hosted.owner;
            self.table.set_deadline(slot, deadline);
            if ask {
                self.turn.pending.push(Outgoing::Chain { owner, request: ChainRequest::ClosingTerms });
            }
        }
        self.turn.touched = touched;
    }
}

fn directory_entry(view: &ChannelView) -> DirectoryEntry {
    let (session, online) = match view.connection {
        ConnectionView::Offline => (None, false),
        ConnectionView::Reestablishing(session) => (Some(session), false),
        ConnectionView::Online(session) => (Some(session), true),
    };
    DirectoryEntry {
        owner: view.owner,
        channel_id: view.channel_id,
        node: view.counterparty_node,
        session,
        usable: online && view.usable,
        spendable_msat: view.spendable_msat,
        receivable_msat: view.receivable_msat,
        phase: view.phase.clone(),
        funded: view.funding_height.is_some(),
    }
}
