//! Terms for an agreed close that come late: the hub's node takes its time over fees, and the channel is elsewhere by then.

use bytes::Bytes;
use proto::hub::v1::ChannelPhase;

use super::SLOW;
use crate::audit::{Broken, Party};
use crate::run::Run;
use crate::run::seats::{Character, Line};

/// How long the hub waits for fees, in milliseconds, and a little.
const ESTIMATE_MS: u64 = 2_100;
/// Turns in which an agreed close comes to its terms.
const MOST_TURNS: u32 = 1_500;
/// Tenths of a second in which a wallet connects again.
const TENTHS: u32 = 150;

impl Run {
    pub(super) fn terms_come_late(&mut self) -> Result<(), Broken> {
        let number = self.moments.chance.below(self.wallets.len());
        let there = self.lives(Party::Hub) && self.lives(Party::Wallet(number));
        if !there || self.somebody_cheated() || self.hub.character != Character::Honest {
            return Ok(());
        }
        let channels = self.of_wallet(number)?;
        let quiet =
            channels.iter().rev().find(|one| one.phase() == ChannelPhase::Open && one.in_flight_msat == 0);
        let Some(id) = quiet.map(|channel| channel.channel_id.clone()) else { return Ok(()) };
        self.note("faults", format_args!("terms for a close of wallet {number}'s come late"));
        let done = if self.moments.chance.one_of(1, 2) {
            self.close_before_terms(number, &id)
        } else {
            self.agree_before_other_terms(number, &id)
        };
        self.node.set_slow("hub", None);
        done?;
        self.settle()
    }

    /// The channel is closed alone before there are terms, and a block may hold that already.
    fn close_before_terms(&mut self, number: usize, id: &Bytes) -> Result<(), Broken> {
        self.let_fees_be_unknown(&["hub"])?;
        self.closes(Party::Wallet(number), id, false);
        self.settle()?;
        self.node.set_slow("hub", None);
        let by = if self.moments.chance.one_of(1, 4) { Party::Hub } else { Party::Wallet(number) };
        self.closes(by, id, true);
        self.settle()?;
        self.block_before_terms()
    }

    /// A ticket is lost on its way and comes again, while the hub looks for other terms.
    fn agree_before_other_terms(&mut self, number: usize, id: &Bytes) -> Result<(), Broken> {
        self.closes(Party::Wallet(number), id, false);
        self.turn_until("closing_terms")?;
        let Some(link) = self.net.link_of(number) else { return Ok(()) };
        self.net.cut(link);
        self.set_line(number, Line::Cut);
        let fees = self.let_fees_be_unknown(&[]);
        self.set_line(number, Line::Open);
        fees?;
        // With a block the desk asks for what its batches pay. What terms are made of is asked for by another.
        self.block_for_all()?;
        self.node.set_slow("hub", Some(SLOW));
        let before = self.met(&["closing_ticket"]);
        for _ in 0..TENTHS {
            self.advance(100);
            self.settle()?;
            if self.met(&["closing_ticket"]) > before {
                break;
            }
        }
        self.node.set_slow("hub", None);
        self.settle()?;
        self.block_before_terms()
    }

    fn turn_until(&mut self, event: &str) -> Result<(), Broken> {
        let before = self.met(&[event]);
        for turn in 0..MOST_TURNS {
            let moved = self.turn()?;
            // Looking is dearer than a turn.
            if (moved || turn.is_multiple_of(64)) && self.met(&[event]) > before {
                break;
            }
        }
        Ok(())
    }

    fn block_before_terms(&mut self) -> Result<(), Broken> {
        if self.moments.chance.one_of(2, 3) {
            for _ in 0..3 {
                self.advance(150);
                self.settle()?;
            }
            self.mine(1);
            for _ in 0..3 {
                self.advance(100);
                self.settle()?;
            }
        }
        self.advance(ESTIMATE_MS);
        self.settle()
    }
}
