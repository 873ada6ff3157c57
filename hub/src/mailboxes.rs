//! Where mail for the shards and the control thread is put. Nothing here blocks.
//!
//! The mailboxes have no bound of their own, because everything in them has one elsewhere: peers' messages by their
//! session's window, messages between channels by the HTLCs they belong to, commands and reads by those who wait for them,
//! the journal's news by the commits.

use std::sync::Arc;

use channel::ids::OwnerId;
use crossbeam_channel::Sender;
use shard::Mail;

use crate::control::ControlMail;
use crate::placement::Placement;

/// What one machine takes its mail from.
pub type Mailbox<M> = crossbeam_channel::Receiver<M>;

/// The senders of all mailboxes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Mailboxes {
    shards: Arc<[Sender<Mail>]>,
    control: Sender<ControlMail>,
    placement: Arc<Placement>,
}

impl Mailboxes {
    pub fn new(shards: Vec<Sender<Mail>>, control: Sender<ControlMail>, placement: Arc<Placement>) -> Self {
        Mailboxes { shards: shards.into(), control, placement }
    }

    pub fn placement(&self) -> &Arc<Placement> {
        &self.placement
    }

    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// To one shard by its index. A shard that is gone stopped with the process: the mail is dropped.
    pub fn shard(&self, shard: usize, mail: Mail) {
        let _ = self.shards[shard].send(mail);
    }

    /// To the shard that owns this number.
    pub fn owner(&self, owner: OwnerId, mail: Mail) {
        self.shard(self.placement.shard_of(owner), mail);
    }

    /// To every shard, in order.
    pub fn every_shard(&self, mut mail: impl FnMut() -> Mail) {
        for shard in 0..self.shards.len() {
            self.shard(shard, mail());
        }
    }

    pub fn control(&self, mail: ControlMail) {
        let _ = self.control.send(mail);
    }

    /// Mails waiting in a shard's mailbox.
    pub fn waiting(&self, shard: usize) -> usize {
        self.shards[shard].len()
    }
}
