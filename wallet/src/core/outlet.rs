//! What the shard hands out, performed: frames to the hub, messages to the ledger, requests to the desk.

use std::sync::Arc;

use bitcoin::{ScriptBuf, TxOut};
use channel::channel::{ChannelView, PhaseView};
use channel::error::FailureCause;
use channel::event::{AcceptRequest, Command};
use channel::forward::Internal;
use channel::ids::{ChannelId, OwnerId, SessionId};
use channel::message::{Message, OpenChannel};
use journal::Retained;
use settlement::desk::DeskRequest;
use settlement::desk::service::{DeskHandle, Stopping};
use shard::{ChainRequest, Credit, DirectoryEntry, Mail, Outlet, PeerRefusal, Refused, Reply, ReplyTo};
use tokio::runtime::Handle;
use tokio::sync::OnceCell;
use tokio::sync::mpsc::error::TrySendError;

use super::answers::Answers;
use super::{CoreHandle, CoreMail, Frames, Session};
use crate::directory::Directory;
use crate::history;

/// Everything around the shard and the ledger.
pub struct WalletOutlet {
    pub directory: Directory,
    pub session: Option<Session>,
    pub frames: Frames,
    pub to_ledger: Vec<Internal>,
    pub to_shard: Vec<(OwnerId, Internal)>,
    /// Channels that have ended, for the ledger.
    pub ended: Vec<OwnerId>,
    answers: Answers,
    core: CoreHandle,
    desk: DeskHandle,
    runtime: Handle,
    /// Where this process asks for coins of hubs, once it has asked for one.
    reserve_script: Arc<OnceCell<ScriptBuf>>,
    /// No block below holds anything of this wallet.
    birthday_height: u32,
}

impl WalletOutlet {
    pub fn new(core: CoreHandle, desk: DeskHandle, runtime: Handle, birthday_height: u32) -> Self {
        WalletOutlet {
            directory: Directory::default(),
            session: None,
            frames: Frames::default(),
            to_ledger: Vec::new(),
            to_shard: Vec::new(),
            ended: Vec::new(),
            answers: Answers::default(),
            core,
            desk,
            runtime,
            reserve_script: Arc::default(),
            birthday_height,
        }
    }

    /// The hub announced a channel's close: this wallet answers with a fresh address. The address is durable before the
    /// channel hears of it, so it is never given to anybody else.
    fn answer_shutdown(&self, owner: OwnerId) {
        let (core, desk) = (self.core.clone(), self.desk.clone());
        self.runtime.spawn(async move {
            // A desk that ended is a process that is stopping: the next one answers.
            let Ok(address) = desk.new_address().await else { return };
            let command = Command::Shutdown { script: address.script_pubkey() };
            let reply = ReplyTo::new(move |reply| {
                if let Reply::Refused(why) = reply {
                    tracing::info!(owner = owner.0, %why, "the hub's shutdown is answered already");
                }
            });
            let mail = Mail::Command { owner, command, reply: Some(reply) };
            core.send(CoreMail::Call(Box::new(move |core| core.mail.push_back(mail))));
        });
    }

    /// The hub proposes a channel. A wallet whose coins do not suffice to close one channel more by itself asks for a coin in the
    /// funding transaction; its address is durable before the hub hears of it, and one serves all of a process, so that a hub
    /// that goes on proposing uses up none. `credit` slows such a hub down.
    pub fn accept_opening(&self, request: AcceptRequest, message: Box<OpenChannel>, credit: Credit) {
        let (core, desk) = (self.core.clone(), self.desk.clone());
        let address = Arc::clone(&self.reserve_script);
        self.runtime.spawn(async move {
            // A desk that ended is a process that is stopping: the hub's opening ends with the connection.
            let Ok(summary) = desk.summary().await else { return };
            let reserve = summary.reserve;
            let reserve_script = match reserve.confirmed_coins > reserve.needed_coins {
                true => ScriptBuf::new(),
                false => match address.get_or_try_init(|| fresh_script(&desk)).await {
                    Ok(script) => script.clone(),
                    Err(Stopping) => return,
                },
            };
            let request = AcceptRequest { reserve_script, ..request };
            let mail = Mail::Accept { request, message };
            core.send(CoreMail::Call(Box::new(move |core| core.mail.push_back(mail))));
            drop(credit);
        });
    }

    /// For news of the desk about a channel: one that ended, and whose end the desk had not heard of when the process died, is
    /// forgotten now. What is no channel's is not for the shard to know.
    pub fn forgets_the_unknown(&self, owner: OwnerId) -> Option<ReplyTo> {
        let desk = self.desk.clone();
        (owner.0 >= super::assemble::FIRST_CHANNEL).then(|| {
            ReplyTo::new(move |reply| {
                if matches!(reply, Reply::Refused(Refused::UnknownOwner(_))) {
                    desk.request(owner, DeskRequest::Forget);
                }
            })
        })
    }

    /// The journal wants the desk's snapshot.
    pub fn snapshot_desk(&self) {
        let desk = self.desk.clone();
        self.runtime.spawn(async move { desk.snapshot().await });
    }

    /// Sends what was collected, or drops it if nobody is connected: reestablish repeats what counts.
    pub fn send_frames(&mut self) {
        for frame in self.frames.take() {
            if let Some(session) = &self.session
                && let Err(TrySendError::Full(_)) = session.frames.try_send(frame)
            {
                tracing::warn!("the hub does not read what it is sent: the connection is made anew");
                self.session = None;
            }
        }
    }

    fn desk_request(&self, owner: OwnerId, request: ChainRequest) -> Option<DeskRequest> {
        Some(match request {
            ChainRequest::BuildFunding { script, amount, reserve_coin } => {
                let output = TxOut { value: amount, script_pubkey: script };
                DeskRequest::BuildFunding { output, reserve_coin }
            }
            ChainRequest::WatchFunding { outpoint, script, amount, minimum_depth } => {
                let output = TxOut { value: amount, script_pubkey: script };
                if self.was_lost(owner) {
                    let from_height = self.birthday_height;
                    DeskRequest::FindFunding { outpoint, output, minimum_depth, from_height }
                } else {
                    DeskRequest::WatchFunding { outpoint, output, minimum_depth }
                }
            }
            ChainRequest::BroadcastFunding { transaction } => DeskRequest::BroadcastFunding { transaction },
            ChainRequest::ReleaseCoins { transaction } => DeskRequest::ReleaseCoins { transaction },
            ChainRequest::ClosingHandedOver { transaction, publish_by_height } => {
                DeskRequest::ClosingHandedOver { transaction, publish_by_height }
            }
            ChainRequest::ClosingTerms | ChainRequest::TicketReady(_) => {
                tracing::error!(owner = owner.0, "a wallet's channel asked for what only the hub's do");
                return None;
            }
            ChainRequest::ProvenBehind => DeskRequest::Suspend,
            ChainRequest::Plan(plan) => DeskRequest::Plan(plan),
        })
    }
}

async fn fresh_script(desk: &DeskHandle) -> Result<ScriptBuf, Stopping> {
    desk.new_address().await.map(|address| address.script_pubkey())
}

impl WalletOutlet {
    /// Of a channel that was made again, blocks of any age may hold the funding and what spent it.
    fn was_lost(&self, owner: OwnerId) -> bool {
        let phase = self.directory.get(owner).map(|entry| &entry.phase);
        matches!(phase, Some(PhaseView::Failed { cause: FailureCause::DataLost }))
    }
}

impl Outlet for WalletOutlet {
    fn send(&mut self, session: SessionId, channel: ChannelId, messages: Vec<Message>) {
        if self.session.as_ref().is_some_and(|current| current.id == session) {
            self.frames.channel(channel, &messages);
        }
    }

    fn internal(&mut self, to: OwnerId, message: Internal) {
        if to == crate::ledger::LEDGER {
            self.to_ledger.push(message);
        } else {
            self.to_shard.push((to, message));
        }
    }

    fn chain(&mut self, owner: OwnerId, request: ChainRequest) {
        if let Some(request) = self.desk_request(owner, request) {
            self.desk.request(owner, request);
        }
    }

    fn publish(&mut self, entry: DirectoryEntry) {
        if self.answers.due(&entry) {
            self.answer_shutdown(entry.owner);
        }
        self.directory.publish(entry);
    }

    fn ending(&mut self, view: &ChannelView) -> Option<Retained> {
        Some(history::closed_row(view))
    }

    fn peer_refused(&mut self, session: SessionId, channel: ChannelId, why: PeerRefusal) {
        tracing::warn!(%channel, %why, "the hub's messages about a channel were refused");
        let ours = self.session.as_ref().is_some_and(|current| current.id == session);
        match why {
            // The channel starts again from what both sides have, over a new connection.
            PeerRefusal::Refused(_) if ours => self.session = None,
            PeerRefusal::Refused(_) | PeerRefusal::UnknownChannel | PeerRefusal::NotYours => {}
        }
    }

    fn finished(&mut self, owner: OwnerId, _: ChannelId) {
        self.answers.forget(owner);
        self.directory.forget(owner);
        self.desk.request(owner, DeskRequest::Forget);
        self.ended.push(owner);
    }

    fn flush(&mut self) {
        self.send_frames();
    }
}
