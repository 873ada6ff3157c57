//! What hostile people do: they publish old states, and say what no honest wallet would say.

use prost::Message;
use proto::hub::v1 as pb;
use proto::hub::v1::Frame;
use proto::hub::v1::frame::Kind;
use proto::hub::v1::operator_server::Operator;
use proto::wallet::v1 as wallet_pb;
use proto::wallet::v1::wallet_server::Wallet;
use tonic::Request;

use super::Run;
use super::seats::{Character, Line};
use crate::audit::Broken;
use crate::disk::Cut;
use crate::net::Speaker;
use crate::seed::Chance;

impl Run {
    /// One step further on the way of a cheat: first it keeps a copy of its disk, later it goes back to that, meets nobody any
    /// more, and closes every channel alone. A hostile wallet begins or ends to tamper with what it says.
    pub(super) fn cheat(&mut self, number: usize) -> Result<(), Broken> {
        match self.hub.character {
            Character::Honest | Character::Forgetful => {}
            Character::Hostile => {
                self.tamper(Speaker::Hub);
                return Ok(());
            }
            Character::Cheat => return self.hub_cheats(),
        }
        match self.wallets[number].character {
            Character::Honest | Character::Forgetful => Ok(()),
            Character::Hostile => {
                self.tamper(Speaker::Wallet(number));
                Ok(())
            }
            Character::Cheat if self.wallets[number].line == Line::Cut => Ok(()),
            Character::Cheat => self.wallet_cheats(number),
        }
    }

    fn wallet_cheats(&mut self, number: usize) -> Result<(), Broken> {
        let Some(backup) = self.wallets[number].backup.take() else {
            if self.counts.steps < 40 {
                return Ok(());
            }
            self.note("cheats", format_args!("wallet {number} keeps a copy"));
            self.wallets[number].backup = Some(self.wallets[number].disk.copy());
            return Ok(());
        };
        self.note("cheats", format_args!("wallet {number} goes back to its copy and closes everything"));
        self.say_wallet(number);
        self.wallets[number].kill(Cut::Kill, &mut self.chance.disk);
        self.net.wallet_died(number);
        self.set_line(number, Line::Cut);
        self.wallets[number].disk.restore(&backup);
        self.start_wallet(number)?;
        self.settle()?;
        let request = wallet_pb::ListChannelsRequest { include_closed: false };
        let listed =
            self.ask_wallet(
                number,
                |service| async move { service.list_channels(Request::new(request)).await },
            )?;
        for channel in listed.map(|listed| listed.channels).unwrap_or_default() {
            let request = wallet_pb::CloseChannelRequest {
                channel_id: channel.channel_id,
                force: true,
                ..Default::default()
            };
            self.ask_wallet(
                number,
                |service| async move { service.close_channel(Request::new(request)).await },
            )?;
        }
        Ok(())
    }

    fn hub_cheats(&mut self) -> Result<(), Broken> {
        if self.hub.line == Line::Cut || self.counts.steps < 40 {
            return Ok(());
        }
        let Some(backup) = self.hub.backup.take() else {
            self.note("cheats", format_args!("the hub keeps a copy"));
            self.hub.backup = Some(self.hub.disk.copy());
            return Ok(());
        };
        self.note("cheats", format_args!("the hub goes back to its copy and closes everything"));
        self.say("hub");
        self.hub.kill(Cut::Kill, &mut self.chance.disk);
        self.net.hub_died();
        self.hub.line = Line::Cut;
        self.hub.disk.restore(&backup);
        self.start_hub()?;
        self.settle()?;
        let listed = self.ask_operator(|operator| async move {
            operator.list_channels(Request::new(pb::ListChannelsRequest::default())).await
        })?;
        for channel in listed.map(|listed| listed.channels).unwrap_or_default() {
            self.operator_closes_one(channel.channel_id, true)?;
        }
        // Whoever cheats lets nothing hold it up.
        self.ask_operator(|operator| async move {
            operator.release_held(Request::new(pb::ReleaseHeldRequest {})).await
        })?;
        Ok(())
    }

    /// Whoever is hostile may be so from the beginning.
    pub(super) fn first_lies(&mut self) {
        if self.hub.character == Character::Hostile {
            self.tamper(Speaker::Hub);
        }
        for number in 0..self.wallets.len() {
            if self.wallets[number].character == Character::Hostile {
                self.tamper(Speaker::Wallet(number));
            }
        }
    }

    fn tamper(&mut self, who: Speaker) {
        let mut chance = self.plan.seed.stream(&format!("tamper {who:?} {}", self.counts.steps));
        let how = chance.below(8);
        self.note("cheats", format_args!("{who:?} speaks falsely, in way {how}"));
        let tamper: Option<crate::net::Tamper> = match how {
            0 => None,
            1 => Some(Box::new(move |frame| flip(frame, &mut chance))),
            2 => Some(Box::new(
                move |frame| if chance.one_of(1, 3) { vec![frame.clone(), frame] } else { vec![frame] },
            )),
            3 => Some(Box::new(move |frame| if chance.one_of(1, 3) { Vec::new() } else { vec![frame] })),
            5.. => Some(self.lies.liar(who, chance)),
            _ => {
                let mut kept: Option<Frame> = None;
                // What it said once it says again later.
                Some(Box::new(move |frame| {
                    let again = kept.take_if(|_| chance.one_of(1, 4));
                    if chance.one_of(1, 4) {
                        kept = Some(frame.clone());
                    }
                    [Some(frame), again].into_iter().flatten().collect()
                }))
            }
        };
        self.net.set_tamper(who, tamper);
    }
}

/// One bit of a batch is another. The handshake is left alone: who fails it says nothing further.
fn flip(frame: Frame, chance: &mut Chance) -> Vec<Frame> {
    if !matches!(frame.kind, Some(Kind::Batch(_))) || !chance.one_of(1, 4) {
        return vec![frame];
    }
    let mut bytes = frame.encode_to_vec();
    if bytes.is_empty() {
        return vec![frame];
    }
    let index = chance.below(bytes.len());
    bytes[index] ^= 1 << chance.below(8);
    vec![Frame::decode(bytes.as_slice()).unwrap_or(frame)]
}
