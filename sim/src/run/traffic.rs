//! Busy days: many pay one wallet at once, over more channels than one; lines stand still while blocks come and payments near
//! their expiry; the hub's power fails when forwards are half way. And the auditor's look at forwards.

use proto::wallet::v1 as pb;
use proto::wallet::v1::wallet_server::Wallet;
use tonic::Request;

use super::Run;
use super::calls::Asked;
use super::hindrance::MOST_BLOCKS;
use super::seats::{Character, Line};
use crate::audit::forwards::{Late, Untaken, at_rest, atomic, check_sent, missing, tried_again};
use crate::audit::{Broken, Party};
use crate::disk::Cut;
use crate::plan::{Fault, Plan};
use crate::process::HubPart;
use crate::seed::Chance;

/// One in so many steps, on average, where the seed makes much or little of it.
const CROWDS: [Option<u32>; 3] = [Some(60), Some(20), Some(6)];
const STANDSTILLS: [Option<u32>; 3] = [Some(90), Some(30), Some(12)];
const HALF_WAYS: [Option<u32>; 4] = [None, Some(60), Some(20), Some(8)];
/// Channels that everybody is paid by, besides the first.
const MORE_INBOUND: (u64, u64) = (0, 2);
/// Payments in a crowd.
const CROWD: (u64, u64) = (2, 7);
/// What somebody pays whose line stands still, in msat: enough for an output.
const PAID_MEANWHILE_MSAT: (u64, u64) = (400_000, 20_000_000);
/// Blocks after which a payment's last HTLC expires if nobody asked for more: what payees ask for and what payers add.
const EXPIRY_BLOCKS: u64 = 24;
/// Blocks that come in a second while a line stands still: too fast for the line to be given up for its silence, and slow enough
/// for what must be in a block within twelve.
const BLOCKS_A_SECOND: u64 = 2;
/// Blocks that may come without the hub's looking at them. With more a preimage comes too late for the HTLC that pays for it:
/// between the expiries of the two lie 40.
const BEHIND_BLOCKS: u64 = 30;
/// Rounds of everybody's work in which a half-done forward is waited for.
const HALF_WAY_ROUNDS: u32 = 40;
/// Longest that a hub is away whose power failed.
const AWAY_MS: u64 = 5_000;

/// How busy a run's days are, and what the auditor remembers of forwards.
pub struct Traffic {
    chance: Chance,
    crowd_every: Option<u32>,
    standstill_every: Option<u32>,
    half_way_every: Option<u32>,
    /// As many more channels that everybody is paid by from the beginning.
    pub more_inbound: u64,
    late: Late,
    /// What was called failed although it may still be taken.
    pub untaken: Untaken,
    /// The height that the hub knew when it was last seen.
    hub_height: u32,
    /// Reorganisations that `late` knows of.
    reorgs: u64,
}

impl Traffic {
    pub fn of(plan: &Plan) -> Self {
        let mut chance = plan.seed.stream("traffic");
        let mut every = |drawn: &[Option<u32>]| drawn[chance.below(drawn.len())];
        let (crowd_every, standstill_every) = (every(&CROWDS), every(&STANDSTILLS));
        // Drawn in any case, so that taking the fault away leaves the rest as it is.
        let half_way_every = every(&HALF_WAYS).filter(|_| plan.faults.has(Fault::Crash));
        let more_inbound = chance.within(MORE_INBOUND.0, MORE_INBOUND.1);
        let late = Late::default();
        Traffic {
            chance,
            crowd_every,
            standstill_every,
            half_way_every,
            more_inbound,
            late,
            untaken: Untaken::default(),
            hub_height: 0,
            reorgs: 0,
        }
    }

    fn comes(&mut self, every: Option<u32>) -> bool {
        every.is_some_and(|every| self.chance.one_of(1, every))
    }
}

impl Run {
    /// What busy days bring to a step.
    pub(super) fn traffic(&mut self) -> Result<(), Broken> {
        let Traffic { crowd_every, standstill_every, half_way_every, .. } = self.traffic;
        if self.traffic.comes(crowd_every) {
            let payee = self.traffic.chance.below(self.wallets.len());
            self.crowd(payee);
        }
        if self.traffic.comes(standstill_every) {
            let payee = self.traffic.chance.below(self.wallets.len());
            self.stand_still(payee)?;
        }
        if self.traffic.comes(half_way_every) {
            let payee = self.traffic.chance.below(self.wallets.len());
            self.crowd(payee);
            self.fail_half_way()?;
        }
        Ok(())
    }

    /// Many pay one wallet at once, and more than its largest channel takes.
    fn crowd(&mut self, payee: usize) {
        let (least, most) = self.climate.capacity_sat;
        let chance = &mut self.traffic.chance;
        let payments = chance.within(CROWD.0, CROWD.1);
        if chance.one_of(1, 3) {
            let request =
                pb::RequestInboundRequest { amount_sat: chance.within(least, most), ..Default::default() };
            self.ask(
                payee,
                |service| async move { service.request_inbound(Request::new(request)).await },
                |call| Asked::Inbound { call },
            );
        }
        // In msat: a quarter of a small channel to more than half of a large one.
        let amount_msat = self.traffic.chance.within(least * 250, most * 600);
        self.note("people", format_args!("{payments} pay {amount_msat} msat to wallet {payee} at once"));
        for _ in 0..payments {
            self.pay_from_anybody(payee, amount_msat);
        }
    }

    fn pay_from_anybody(&mut self, payee: usize, amount_msat: u64) {
        let Some(process) = &self.wallets[payee].process else { return };
        let payee_key = process.node_id().as_bytes().to_vec();
        let payer = self.traffic.chance.below(self.wallets.len() - 1);
        let payer = if payer >= payee { payer + 1 } else { payer };
        let request = pb::SendRequest { payee: payee_key.into(), amount_msat, ..Default::default() };
        self.ask(
            payer,
            |service| async move { service.send(Request::new(request)).await },
            |call| Asked::Pay { call },
        );
    }

    /// Whether the hub has missed as many blocks as it may.
    pub(super) fn hub_is_far_behind(&mut self) -> bool {
        if let Some(hub) = self.hub.process.as_ref().filter(|hub| hub.ready()) {
            self.traffic.hub_height = hub.height();
        }
        // Before the hub has begun there is nothing to miss.
        let seen = u64::from(self.traffic.hub_height);
        seen > 0 && u64::from(self.node.height()) >= seen + BEHIND_BLOCKS
    }

    /// A wallet's line stands still while it is paid and blocks come, until payments have nearly expired, or have. Then
    /// the line goes on where it stood, or the wallet must connect anew.
    fn stand_still(&mut self, payee: usize) -> Result<(), Broken> {
        if self.spells.any_away() {
            return Ok(());
        }
        // Everybody else is there, and fast enough for two blocks a second: of whoever is not, nothing was promised.
        self.end_all_oddities();
        let now = self.clock.now_ms();
        self.hub.back_ms = now;
        self.wallets.iter_mut().for_each(|wallet| wallet.back_ms = now);
        self.return_those_away()?;
        self.let_proofs_come(MOST_BLOCKS)?;
        self.settle()?;
        let Some(link) = self.net.link_of(payee) else { return Ok(()) };
        self.net.stall(link, u64::MAX);
        for _ in 0..self.traffic.chance.within(1, 3) {
            let amount_msat = self.traffic.chance.within(PAID_MEANWHILE_MSAT.0, PAID_MEANWHILE_MSAT.1);
            self.pay_from_anybody(payee, amount_msat);
            self.settle()?;
        }
        let blocks = match self.traffic.chance.below(4) {
            0 => self.traffic.chance.within(1, EXPIRY_BLOCKS),
            1 | 2 => EXPIRY_BLOCKS + self.traffic.chance.within(0, 2),
            _ => self.traffic.chance.within(EXPIRY_BLOCKS, 3 * EXPIRY_BLOCKS),
        };
        self.note("people", format_args!("the line of wallet {payee} stands still for {blocks} blocks"));
        for block in 0..blocks {
            self.mine(1);
            // Whoever fails meanwhile is back in time, as ever.
            self.return_those_away()?;
            self.settle()?;
            // Without time nobody publishes anything: whoever waits before the next try tries in between.
            if block % BLOCKS_A_SECOND == 0 {
                self.advance(1_000);
                self.settle()?;
            }
        }
        self.net.stall(link, self.clock.now_ms());
        match self.traffic.chance.below(3) {
            0 => {}
            1 => self.net.cut(link),
            _ => {
                if self.wallets[payee].process.is_some() {
                    self.note("people", format_args!("wallet {payee} is started anew"));
                    self.say_wallet(payee);
                    self.wallets[payee].kill(Cut::Kill, &mut self.chance.disk);
                    self.net.wallet_died(payee);
                    self.wallets[payee].back_ms = self.clock.now_ms();
                }
            }
        }
        Ok(())
    }

    /// Lets everybody work until a word is on its way between two of the hub's channels; then its power fails, or its process
    /// dies. What one of its parts knows is durable then, and what another knows is not.
    fn fail_half_way(&mut self) -> Result<(), Broken> {
        for _ in 0..HALF_WAY_ROUNDS {
            for number in 0..self.wallets.len() {
                self.say_wallet(number);
                self.wallets[number].settle(&mut self.chance.disk)?;
            }
            self.say("net");
            self.connect_dialers()?;
            for link in self.net.links() {
                self.net.carry(link, self.clock.now_ms());
            }
            let parts = 2 * (1 + self.hub.setup.shards());
            for _ in 0..parts {
                self.say("hub");
                self.hub.turn(HubPart::Tasks { polls: 8 }, &mut self.chance.disk)?;
                let part = match self.traffic.chance.below(1 + self.hub.setup.shards()) {
                    0 => HubPart::Journal,
                    shard => HubPart::Shard(shard - 1),
                };
                self.hub.turn(part, &mut self.chance.disk)?;
                self.hub.turn(HubPart::Control, &mut self.chance.disk)?;
                let Some(hub) = &self.hub.process else { return Ok(()) };
                let Some(sights) = hub.forwards() else { return Ok(()) };
                let half_way = !missing(&sights).is_empty() && self.traffic.chance.one_of(1, 12);
                if half_way || tried_again(&sights) {
                    return self.fail_now();
                }
            }
        }
        Ok(())
    }

    fn fail_now(&mut self) -> Result<(), Broken> {
        let chance = &mut self.traffic.chance;
        let (durable, cut) = (chance.one_of(2, 3), if chance.one_of(1, 2) { Cut::Kill } else { Cut::Power });
        let back_ms = self.clock.now_ms() + chance.within(0, AWAY_MS);
        if durable {
            self.hub.turn(HubPart::Journal, &mut self.chance.disk)?;
        }
        if self.hub.process.is_none() {
            return Ok(());
        }
        self.note("faults", format_args!("the hub's end half way: {cut:?}"));
        self.hub.kill(cut, &mut self.chance.disk);
        self.hub.back_ms = back_ms;
        self.net.hub_died();
        self.counts.crashes += 1;
        Ok(())
    }

    // --- The auditor -------------------------------------------------------------------------------------------------

    /// What holds at every moment.
    pub(super) fn look_at_forwards(&mut self) -> Result<(), Broken> {
        self.look_at_adds()?;
        for (number, wallet) in self.wallets.iter().enumerate() {
            if let Some(process) = wallet.process.as_ref().filter(|_| wallet.is_honest()) {
                self.traffic.untaken.look(Party::Wallet(number), process.given_up());
                self.lost.note_prices(number, process.prices_paid());
            }
        }
        if self.hub.character != Character::Honest || self.hub.line == Line::Cut {
            return Ok(());
        }
        let Some(sights) = self.hub.process.as_ref().and_then(|hub| hub.forwards()) else { return Ok(()) };
        let given_up = sights.channels.values().flat_map(|sight| &sight.forwards.given_up);
        self.traffic.untaken.look(Party::Hub, given_up.copied());
        atomic(&sights)?;
        self.traffic.late.look(&sights)
    }

    /// What holds when nobody has anything to do.
    pub(super) fn look_at_rest(&mut self) -> Result<(), Broken> {
        if self.hub.character != Character::Honest || self.odd.somebody_lags() {
            return Ok(());
        }
        let Some(sights) = self.hub.process.as_ref().and_then(|hub| hub.forwards()) else { return Ok(()) };
        atomic(&sights)?;
        at_rest(&sights)
    }

    /// What has expired may have not, where blocks were undone.
    fn look_at_adds(&mut self) -> Result<(), Broken> {
        if self.traffic.reorgs != self.counts.reorgs {
            self.traffic.reorgs = self.counts.reorgs;
            self.traffic.late.forget();
            self.net.forget_heights();
        }
        for added in self.net.take_added() {
            check_sent(added.add, added.wallet, added.began_at)?;
        }
        Ok(())
    }
}
