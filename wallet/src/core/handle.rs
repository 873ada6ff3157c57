//! The core from outside. Cheap to clone; every answer rests on what is durable.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use bitcoin::Amount;
use channel::amount::Msat;
use channel::event::{Command, OpenRequest, Role};
use channel::ids::{ChannelId, OwnerId, SessionId};
use proto::frame::{Contents, InboundRequest};
use proto::hub::v1 as pb;
use shard::{Answer, Mail, Query, Refused, Reply, ReplyTo};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::{Agreed, Core, CoreMail, Session};
use crate::ledger::Prices;
use crate::ledger::state::Ended;
use crate::limits;

/// The process is stopping: no answer will come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the wallet is stopping")]
pub struct Stopped;

/// See the module's page.
#[derive(Clone, Debug)]
pub struct CoreHandle {
    inbox: Sender<CoreMail>,
}

/// How a payment stands.
#[derive(Debug)]
pub enum Paying {
    /// In flight: its end will come.
    InFlight(oneshot::Receiver<Ended>),
    /// Over: its row is durable.
    Over,
}

impl CoreHandle {
    pub fn new(inbox: Sender<CoreMail>) -> Self {
        CoreHandle { inbox }
    }

    /// Puts mail in. Lost only when the core ended.
    pub fn send(&self, mail: CoreMail) {
        let _ = self.inbox.send(mail);
    }

    /// Runs on the core's thread; the answer comes once everything it rests on is durable.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Core) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (answer, answered) = oneshot::channel();
        let call = move |core: &mut Core| {
            let value = question(core);
            core.replies.push(Box::new(move || drop(answer.send(value))));
        };
        self.inbox.send(CoreMail::Call(Box::new(call))).map_err(|_| Stopped)?;
        answered.await.map_err(|_| Stopped)
    }

    /// Reads channels.
    pub async fn read(&self, query: Query) -> Result<Answer, Stopped> {
        match self.shard(|reply| Mail::Read { query, reply }).await? {
            Reply::Answer(answer) => Ok(answer),
            Reply::Opened { .. } | Reply::Done | Reply::Refused(_) => Err(Stopped),
        }
    }

    /// Gives a channel a command.
    pub async fn command(&self, owner: OwnerId, command: Command) -> Result<Result<(), Refused>, Stopped> {
        let reply = self.shard(|reply| Mail::Command { owner, command, reply: Some(reply) }).await?;
        match reply {
            Reply::Done => Ok(Ok(())),
            Reply::Refused(refused) => Ok(Err(refused)),
            Reply::Opened { .. } | Reply::Answer(_) => Err(Stopped),
        }
    }

    async fn shard(&self, mail: impl FnOnce(ReplyTo) -> Mail) -> Result<Reply, Stopped> {
        let (answer, answered) = oneshot::channel();
        let mail = mail(ReplyTo::new(move |reply| drop(answer.send(reply))));
        self.inbox
            .send(CoreMail::Call(Box::new(move |core| core.mail.push_back(mail))))
            .map_err(|_| Stopped)?;
        answered.await.map_err(|_| Stopped)
    }

    /// Opens a channel that this wallet funds. `Err(None)`: not connected.
    pub async fn open(
        &self,
        channel_id: ChannelId,
        capacity_sat: u64,
    ) -> Result<Result<(), Option<Refused>>, Stopped> {
        let (answer, answered) = oneshot::channel();
        let call = move |core: &mut Core| {
            let Some(session) = core.outlet.session.as_ref().map(|session| session.id) else {
                drop(answer.send(Err(None)));
                return;
            };
            let Some(owner) = core.owners.take() else {
                drop(answer.send(Err(Some(Refused::TooManyChannels { maximum: 1 << super::OWNER_BITS }))));
                return;
            };
            let request = OpenRequest {
                owner,
                channel_id,
                role: Role::Wallet,
                counterparty_node: core.hub,
                key_id: channel::bytes::KeyId::from_bytes(core.world.random()),
                capacity_sat,
                // A hub has coins of its own.
                reserve_sat: 0,
                price_msat: Msat::ZERO,
                reserve_price_msat: Msat::ZERO,
                session,
            };
            let reply = ReplyTo::new(move |reply| {
                drop(answer.send(match reply {
                    Reply::Refused(refused) => Err(Some(refused)),
                    Reply::Opened { .. } | Reply::Done | Reply::Answer(_) => Ok(()),
                }));
            });
            core.mail.push_back(Mail::Open { request, reply: Some(reply) });
        };
        self.inbox.send(CoreMail::Call(Box::new(call))).map_err(|_| Stopped)?;
        answered.await.map_err(|_| Stopped)
    }

    /// Asks the hub to fund a channel. `None`: not connected. The answer never comes if the connection is lost.
    pub async fn request_inbound(
        &self,
        request: InboundRequest,
    ) -> Result<Option<oneshot::Receiver<Result<ChannelId, pb::ErrorDetail>>>, Stopped> {
        self.ask(move |core| {
            core.outlet.session.as_ref()?;
            let channel = ChannelId::of_request(&core.ledger.node_id(), &request.request_id);
            if core.agreed.len() >= limits::MAX_AGREED_INBOUND {
                // The hub proposes at once what it will: the oldest wait for nothing.
                core.agreed.clear();
            }
            let max_price_msat = Msat::from_sat(Amount::from_sat(request.max_fee_sat));
            let max_price_msat = max_price_msat.unwrap_or(Msat::MAX);
            core.agreed.insert(channel, Agreed { capacity_sat: request.amount_sat, max_price_msat });
            let (answer, answered) = oneshot::channel();
            core.inbound.insert(request.request_id, answer);
            core.outlet.frames.inbound_request(&request);
            Some(answered)
        })
        .await
    }

    /// How a payment stands; whoever asks is told its end.
    pub async fn follow_payment(&self, number: u64) -> Result<Paying, Stopped> {
        self.ask(move |core| {
            if !core.ledger.state().payments.contains_key(&number) {
                return Paying::Over;
            }
            let (ended, end) = oneshot::channel();
            core.payments.entry(number).or_default().push(ended);
            Paying::InFlight(end)
        })
        .await
    }

    /// A connection is proven: everything goes over it from now on, until `hold` is dropped.
    pub async fn session_up(
        &self,
        id: SessionId,
        frames: mpsc::Sender<pb::Frame>,
        hold: oneshot::Sender<()>,
        policy: pb::HubPolicy,
    ) -> Result<(), Stopped> {
        self.ask(move |core| {
            core.prices = Some(Prices::from(&policy));
            core.ledger.policy_told(core.hub, &policy, core.world.now_ms());
            core.outlet.frames = super::Frames::default();
            core.agreed.clear();
            core.outlet.session = Some(Session { id, frames, hold });
            let node = core.hub;
            core.mail.push_back(Mail::SessionUp { node, session: id });
        })
        .await
    }

    /// The connection is gone.
    pub fn session_down(&self, id: SessionId) {
        self.send(CoreMail::Call(Box::new(move |core| {
            if core.outlet.session.as_ref().is_some_and(|current| current.id == id) {
                core.outlet.session = None;
            }
            core.inbound.clear();
            core.agreed.clear();
            core.mail.push_back(Mail::SessionDown { session: id });
        })));
    }

    /// What a frame held.
    pub fn frame(&self, session: SessionId, contents: Contents, permit: OwnedSemaphorePermit) {
        let (contents, permit) = (Box::new(contents), Arc::new(permit));
        self.send(CoreMail::Frame { session, contents, permit });
    }

    /// The chain was followed to its tip: everything that was under way goes on.
    pub async fn resume(&self) -> Result<(), Stopped> {
        self.ask(|core| {
            if core.resumed {
                return;
            }
            core.resumed = true;
            core.ledger.resume();
            core.wants_resume = true;
        })
        .await
    }
}
