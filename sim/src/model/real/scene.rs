//! The channels, open, and the payment on its way to the hub.

use channel::amount::Msat;
use channel::event::Role;
use channel::forward::{ForwardKey, Internal, Offer};
use channel::ids::{OwnerId, StreamId};
use channel::message::{ForwardInstruction, Preimage, Recipient};

use super::lab::{Lab, Routes, Stimulus};
use super::world::{LINKS, Link, Payer, World};
use super::{Bounds, Size};
use crate::model::limits::{IN_EXPIRY, OUT_EXPIRY, SIGN_BY};
use crate::model::pair::{Pair, Party};

/// Who pays or is paid, in each wallet.
pub(super) const LEDGER: OwnerId = OwnerId(1);
/// The channel's number in each wallet.
const WALLETS_CHANNEL: OwnerId = OwnerId(2);

/// The hub's channel of a connection: 0 is the payer's.
pub(super) fn owner(link: usize) -> OwnerId {
    OwnerId(10 + link as u64)
}

/// The connection of a channel of the hub's.
pub(super) fn link_of(owner: OwnerId) -> Option<usize> {
    (0..LINKS).find(|link| self::owner(*link) == owner)
}

/// The hub's end of a connection in the lab; the wallet's is the next.
pub(super) fn hub_end(link: usize) -> usize {
    2 * link
}

pub(super) fn preimage() -> Preimage {
    Preimage::from_bytes([5; 32])
}

/// What comes in and what goes out, in msat.
pub(super) fn amounts(size: Size) -> (u64, u64) {
    match size {
        Size::WithOutput => (2_000_000, 1_990_000),
        Size::Trimmed => (200_000, 199_000),
    }
}

fn msat(amount: u64) -> Msat {
    Msat::new(amount).expect("far below all bitcoin")
}

/// Opens all channels, and lets the payer offer its payment.
pub(super) fn begin(bounds: Bounds) -> Result<(Lab, World), String> {
    let hub_routes =
        Routes { to: bounds.routes.iter().map(|link| owner(*link)).collect(), sign_by_height: SIGN_BY };
    let to_ledger = Routes { to: vec![LEDGER], sign_by_height: u32::MAX };
    let mut ends = Vec::new();
    let mut channels = Vec::new();
    for (link, tag) in (0..LINKS).zip([10u8, 20, 30]) {
        let hub = Party::new(1, Role::Hub, owner(link));
        let hub = Party { key_id: channel::bytes::KeyId::from_bytes([tag; 32]), ..hub };
        let wallet = Party::new(tag + 1, Role::Wallet, WALLETS_CHANNEL);
        let opened = if link == 0 {
            let Pair { opener, accepter } = Pair::open(wallet, hub, &to_ledger);
            [accepter, opener]
        } else {
            let Pair { opener, accepter } = Pair::open(hub, wallet, &to_ledger);
            [opener, accepter]
        };
        for ((party, channel), routes) in opened.into_iter().zip([&hub_routes, &to_ledger]) {
            ends.push((party, routes.clone()));
            channels.push(channel);
        }
    }
    let mut lab = Lab::new(ends);
    let mut states = Vec::new();
    for (end, channel) in channels.into_iter().enumerate() {
        states.push(lab.put_state(end, channel)?);
    }
    let hub: [_; LINKS] = std::array::from_fn(|link| states[hub_end(link)]);
    let links = std::array::from_fn(|link| Link::new(states[hub_end(link) + 1]));
    let mut world = World::new(hub, links, bounds);
    for state in states {
        world.start_worth.push(lab.facts(state).worth_msat);
    }
    let offer = lab.put_internal(Internal::Offer(payment(bounds.size)));
    world.payer = Payer::Waiting;
    world.wallet(0, Stimulus::Internal(offer), &mut lab)?;
    Ok((lab, world))
}

fn payment(size: Size) -> Offer {
    let (incoming, outgoing) = amounts(size);
    Offer {
        key: ForwardKey { incoming: LEDGER, htlc_id: 0, attempt: 1 },
        amount_msat: msat(incoming),
        payment_hash: preimage().payment_hash(),
        cltv_expiry: IN_EXPIRY,
        recipient: Recipient::Stream { id: StreamId([4; 16]), index: 0 },
        forward: Some(ForwardInstruction { amount_msat: msat(outgoing), cltv_expiry: OUT_EXPIRY }),
        payload: Vec::new(),
        sign_by_height: SIGN_BY,
    }
}
