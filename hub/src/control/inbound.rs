//! Channels that the hub opens with its own coins because a wallet asked, at a price within what the wallet allowed. The request
//! is its own record: a repeat gets the channel of the first.

use bitcoin::Amount;
use channel::amount::Msat;
use channel::bytes::KeyId;
use channel::event::{OpenRequest, Role};
use channel::ids::{ChannelId, OwnerId, SessionId};
use channel::keys::Point;
use proto::error::{ErrorCode, ErrorDetail, detail};
use proto::frame::{InboundReply, InboundRequest};
use proto::request_id::RequestId;
use shard::{Mail, Refused, Reply, ReplyTo};
use tokio::time::Instant;

use crate::chain::ToDesk;
use crate::directory::Place;
use crate::session::ToWallet;

use super::mail::ControlMail;
use super::registry::{Inbound, InboundState, Input, RegistryError};
use super::thread::Control;

impl Control {
    /// A wallet asks. What the request alone does not refuse depends on the hub's coins, which the desk knows.
    pub(super) fn inbound(&mut self, session: SessionId, node: Point, asked: InboundRequest) {
        let request_id = asked.request_id;
        match self.consider(&node, &asked) {
            Ok(Considered::New(_)) => {
                if self.setup.sessions.may_open(node, Instant::now()) {
                    // A desk that is gone stopped with the process; the wallet asks the next one again.
                    let _ = self.setup.chain.send(ToDesk::Funds { session, node, request: asked });
                } else {
                    let text = "too many openings in this hour (wallets.opens_per_hour): try again later";
                    self.answer(&node, request_id, Err(detail(ErrorCode::LimitReached, text)));
                }
            }
            Ok(Considered::UnderWay) => {}
            Ok(Considered::Known(channel)) => self.answer(&node, request_id, Ok(channel)),
            Err(refusal) => self.answer(&node, request_id, Err(refusal)),
        }
    }

    /// The desk answered. Another request may have been taken meanwhile, so everything is looked at again. Coins may still be
    /// too few once fees are known, or taken by another opening: then the desk builds nothing and the opening is aborted.
    pub(super) fn funded(
        &mut self,
        session: SessionId,
        node: Point,
        asked: &InboundRequest,
        spendable: Option<Amount>,
    ) {
        let opened = self.consider(&node, asked).and_then(|considered| match considered {
            Considered::New(request) => {
                let quote = self.quote(&node, asked)?;
                check_funds(asked.amount_sat.saturating_add(quote.coin_sat), spendable)?;
                self.open_inbound(session, node, request, asked.amount_sat, quote)?;
                Ok(None)
            }
            Considered::UnderWay => Ok(None),
            Considered::Known(channel) => Ok(Some(channel)),
        });
        match opened {
            // The shard decides, and answers later.
            Ok(None) => {}
            Ok(Some(channel)) => self.answer(&node, asked.request_id, Ok(channel)),
            Err(refusal) => self.answer(&node, asked.request_id, Err(refusal)),
        }
    }

    /// Whether the request is a repeat, and whether the hub's policy allows a new one.
    fn consider(&self, node: &Point, asked: &InboundRequest) -> Result<Considered, ErrorDetail> {
        let request = RequestId::from_bytes(asked.request_id).map_err(ErrorDetail::from)?;
        if let Some(known) = self.registry.inbound().get(&(*node, request.0)) {
            if known.amount_sat != asked.amount_sat {
                let text = format!("this request_id came before for {} sat", known.amount_sat);
                return Err(detail(ErrorCode::RequestIdReused, text));
            }
            return match known.state {
                // The first is still under way: its answer serves the repeat too.
                InboundState::Requested => Ok(Considered::UnderWay),
                InboundState::Opened | InboundState::Ended => Ok(Considered::Known(known.channel_id)),
            };
        }
        request.check_age(self.turn.now_ms).map_err(ErrorDetail::from)?;
        self.check_policy(node, asked.amount_sat)?;
        self.quote(node, asked)?;
        Ok(Considered::New(request))
    }

    fn open_inbound(
        &mut self,
        session: SessionId,
        node: Point,
        request: RequestId,
        amount_sat: u64,
        quote: Quote,
    ) -> Result<(), ErrorDetail> {
        let owner = self.setup.mailboxes.placement().place();
        let owner = owner.map_err(|error| detail(ErrorCode::LimitReached, error.to_string()))?;
        let channel_id = ChannelId::of_request(&node, &request.0);
        let taken = self.setup.directory.reserve(
            channel_id,
            Place { owner, node, hosted: false },
            self.setup.max_channels_per_wallet,
        );
        taken.map_err(|taken| detail(ErrorCode::LimitReached, taken.to_string()))?;
        let inbound = Inbound { amount_sat, owner, channel_id, state: InboundState::Requested };
        self.journal(Input::InboundRequested { node, request: request.0, inbound });
        self.ask_shard(session, node, request, inbound, quote);
        Ok(())
    }

    fn check_policy(&self, node: &Point, amount_sat: u64) -> Result<(), ErrorDetail> {
        let policy = &self.setup.inbound;
        if self.setup.gate.is_shut() {
            return Err(detail(
                ErrorCode::DiskNearlyFull,
                "the hub's disk is nearly full: no new channels for now",
            ));
        }
        if amount_sat < self.setup.min_capacity_sat || amount_sat > policy.max_channel_sat {
            let text = format!(
                "the amount is {amount_sat} sat, the hub opens channels of {} to {} sat",
                self.setup.min_capacity_sat, policy.max_channel_sat
            );
            return Err(ErrorDetail { field: "amount_sat".into(), ..detail(ErrorCode::AgainstPolicy, text) });
        }
        self.registry
            .check_inbound(node, amount_sat, policy.max_channels_per_wallet, policy.max_sat_per_wallet)
            .map_err(|error| detail(code(&error), error.to_string()))
    }

    /// What the channel costs, unless that is more than the wallet allows. A coin is offered with the first only, so that asking
    /// for one after the other earns nothing, and where the wallet allows for it.
    fn quote(&self, node: &Point, asked: &InboundRequest) -> Result<Quote, ErrorDetail> {
        let prices = &self.setup.inbound;
        let price_sat = prices.fee_sat(asked.amount_sat);
        let maximum_sat = asked.max_fee_sat;
        if price_sat > maximum_sat {
            let text = format!("the channel costs {price_sat} sat, {maximum_sat} sat are allowed");
            let advice = format!("allow {price_sat} sat: --max-fee-sat {price_sat}");
            let field = "max_fee_sat".into();
            return Err(ErrorDetail { field, advice, ..detail(ErrorCode::FeeAboveLimit, text) });
        }
        let is_first = self.registry.inbound_of(node).next().is_none();
        let coin_sat = if is_first { prices.reserve_sat } else { 0 };
        let coin_price_sat = prices.coin_fee_sat(coin_sat);
        Ok(match price_sat.saturating_add(coin_price_sat) <= maximum_sat {
            true => Quote { price_sat, coin_sat, coin_price_sat },
            false => Quote { price_sat, coin_sat: 0, coin_price_sat: 0 },
        })
    }

    /// The shard is asked after this turn's append, so the request's row precedes the channel's first in the log.
    fn ask_shard(
        &mut self,
        session: SessionId,
        node: Point,
        request: RequestId,
        inbound: Inbound,
        quote: Quote,
    ) {
        let open = OpenRequest {
            owner: inbound.owner,
            channel_id: inbound.channel_id,
            role: Role::Hub,
            counterparty_node: node,
            key_id: KeyId::from_bytes(self.setup.world.random()),
            capacity_sat: inbound.amount_sat,
            reserve_sat: quote.coin_sat,
            price_msat: msat(quote.price_sat),
            reserve_price_msat: msat(quote.coin_price_sat),
            session,
        };
        let mailboxes = self.setup.mailboxes.clone();
        let reply = ReplyTo::new(move |reply| {
            let result = match reply {
                Reply::Opened { .. } | Reply::Done | Reply::Answer(_) => Ok(()),
                Reply::Refused(refused) => Err(refused),
            };
            mailboxes.control(ControlMail::Opened { node, request, result });
        });
        self.after_append(inbound.owner, Mail::Open { request: open, reply: Some(reply) });
    }

    /// The shard's answer, durable.
    pub(super) fn opened(&mut self, node: Point, request: RequestId, result: Result<(), Refused>) {
        let Some(inbound) = self.registry.inbound().get(&(node, request.0)).copied() else { return };
        match result {
            Ok(()) => {
                if inbound.state == InboundState::Requested {
                    self.journal(Input::InboundOpened { node, request: request.0 });
                }
                self.answer(&node, request.0, Ok(inbound.channel_id));
            }
            Err(refused) => {
                self.journal(Input::InboundDropped { node, request: request.0 });
                self.setup.directory.remove(&inbound.channel_id, inbound.owner);
                let refusal = ErrorDetail {
                    channel_id: inbound.channel_id.0.to_vec().into(),
                    ..detail(ErrorCode::ChannelRefused, refused.to_string())
                };
                self.answer(&node, request.0, Err(refusal));
            }
        }
    }

    /// A channel ended: it counts no more against its wallet's limits.
    pub(super) fn finished(&mut self, owner: OwnerId, channel: ChannelId) {
        self.setup.directory.remove(&channel, owner);
        let of_channel = |(_, inbound): &(&(Point, [u8; 16]), &Inbound)| inbound.channel_id == channel;
        let found = self.registry.inbound().iter().find(of_channel).map(|(key, _)| *key);
        if let Some((node, request)) = found {
            self.journal(Input::InboundEnded { node, request });
        }
    }

    /// After a start, when every channel there is has been published: what became of the openings of the last run.
    pub(super) fn started(&mut self) {
        let pending: Vec<((Point, [u8; 16]), Inbound)> = self
            .registry
            .inbound()
            .iter()
            .filter(|(_, inbound)| inbound.state != InboundState::Ended)
            .map(|(key, inbound)| (*key, *inbound))
            .collect();
        for ((node, request), inbound) in pending {
            let lives = self.setup.directory.place(&inbound.channel_id).is_some();
            match (inbound.state, lives) {
                (InboundState::Requested, true) => self.journal(Input::InboundOpened { node, request }),
                (InboundState::Requested, false) => self.journal(Input::InboundDropped { node, request }),
                (InboundState::Opened, false) => self.journal(Input::InboundEnded { node, request }),
                (InboundState::Opened, true) | (InboundState::Ended, _) => {}
            }
        }
    }

    fn answer(&mut self, node: &Point, request_id: [u8; 16], result: Result<ChannelId, ErrorDetail>) {
        let to = self.setup.sessions.outgoing_to(node);
        self.tell(to, ToWallet::InboundReply(InboundReply { request_id, result }));
    }
}

/// What a channel costs, in satoshi, within what its wallet allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Quote {
    price_sat: u64,
    /// The coin that is offered with it, and what it adds to the price.
    coin_sat: u64,
    coin_price_sat: u64,
}

/// No price is above all the coins there are: a wallet's maximum is not.
fn msat(sat: u64) -> Msat {
    Msat::from_sat(Amount::from_sat(sat)).unwrap_or(Msat::MAX)
}

/// What is to be done about a request.
enum Considered {
    New(RequestId),
    /// The same request came before: its answer is still to come, and serves both.
    UnderWay,
    Known(ChannelId),
}

fn check_funds(amount_sat: u64, spendable: Option<Amount>) -> Result<(), ErrorDetail> {
    let Some(spendable) = spendable else {
        return Err(detail(ErrorCode::Stopping, "the hub is stopping"));
    };
    if spendable.to_sat() < amount_sat {
        let text = format!("the hub's coins on the chain do not allow a channel of {amount_sat} sat for now");
        let advice = "ask for less, or later";
        return Err(ErrorDetail { advice: advice.into(), ..detail(ErrorCode::InsufficientFunds, text) });
    }
    Ok(())
}

fn code(error: &RegistryError) -> ErrorCode {
    match error {
        RegistryError::TooManyInbound { .. } | RegistryError::TooMuchInbound { .. } => {
            ErrorCode::AgainstPolicy
        }
        RegistryError::StreamExists
        | RegistryError::TooManyStreams { .. }
        | RegistryError::HubFull { .. }
        | RegistryError::NoSuchStream
        | RegistryError::TooManyRequests { .. } => ErrorCode::LimitReached,
    }
}
