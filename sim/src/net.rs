//! The network between the hub and its wallets: late, slow, and cut at any byte.
//!
//! A link carries encoded frames both ways. Over one link bytes keep their order; two links of one wallet know nothing of each
//! other, so what an older one still carries may arrive when a newer one is up.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use prost::Message;
use proto::hub::v1::Frame;
use proto::hub::v1::channel_message::Kind as MessageKind;
use proto::hub::v1::frame::Kind as FrameKind;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::{TryRecvError, TrySendError};
use tonic::Status;

use crate::audit::forwards::{SentAdd, adds_of};
use crate::chronicle::Chronicle;
use crate::process::{Dial, HubEnd, HubLine, WalletEnd, hub_line, wallet_line};
use crate::seed::Chance;

/// Bytes before each message of a gRPC stream.
const PREFIX_BYTES: usize = 5;

/// One connection between a wallet and the hub; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId(pub u64);

/// What the net does to what it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weather {
    /// Longest a frame is on its way, in milliseconds.
    pub max_delay_ms: u64,
}

/// Who may say something else than it meant to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Speaker {
    Hub,
    Wallet(usize),
}

/// What somebody hostile does to a frame before it leaves; what is returned goes instead.
pub type Tamper = Box<dyn FnMut(Frame) -> Vec<Frame>>;

/// One direction of a link.
#[derive(Default)]
struct Pipe {
    /// When each arrives, in milliseconds, and what it is.
    frames: VecDeque<(u64, Bytes)>,
    arrives_ms: u64,
    /// The sender is gone: nothing follows, for this reason.
    ended: Option<End>,
}

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Way::Up => "up",
            Way::Down => "down",
        }
    }
}

/// How a direction ends.
#[derive(Clone, Debug)]
enum End {
    Closed,
    Broken,
    With(Status),
}

impl Pipe {
    fn carry(&mut self, frame: &Frame, now_ms: u64, weather: Weather, chance: &mut Chance) {
        let delay = chance.within(0, weather.max_delay_ms);
        self.arrives_ms = self.arrives_ms.max(now_ms.saturating_add(delay));
        self.frames.push_back((self.arrives_ms, frame.encode_to_vec().into()));
    }

    /// Loses what lies behind some byte of what is on its way.
    fn cut(&mut self, chance: &mut Chance) {
        let total: usize = self.frames.iter().map(|(_, bytes)| bytes.len() + PREFIX_BYTES).sum();
        let mut left = if total == 0 { 0 } else { chance.below(total) };
        // A frame of which a byte is missing never arrives.
        let whole = self.frames.iter().take_while(|(_, bytes)| {
            let size = bytes.len() + PREFIX_BYTES;
            let fits = size <= left;
            left = left.saturating_sub(size);
            fits
        });
        let whole = whole.count();
        self.frames.truncate(whole);
        self.ended = Some(End::Broken);
    }
}

struct Link {
    wallet: usize,
    /// How high the chain was when it began, as the hub knew.
    began_at: u32,
    /// None once that end is dead: nobody reads there any more.
    at_hub: Option<HubEnd>,
    at_wallet: Option<WalletEnd>,
    up: Pipe,
    down: Pipe,
    /// Nothing arrives before this time.
    stalled_until_ms: u64,
    added: Vec<SentAdd>,
    /// Fees that the wallet agreed to, with their channels.
    agreed: Vec<(Bytes, u64)>,
}

/// An HTLC that the hub added, over a connection that began at a height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HubAdded {
    pub wallet: usize,
    pub began_at: u32,
    pub add: SentAdd,
}

/// All links.
pub struct Net {
    links: BTreeMap<LinkId, Link>,
    next: u64,
    chance: Chance,
    chronicle: Chronicle,
    weather: Weather,
    tampers: BTreeMap<Speaker, Tamper>,
    /// Those whose frames are kept as they arrive, and what was.
    overhears: BTreeSet<Speaker>,
    overheard: Vec<(LinkId, Bytes)>,
    /// HTLCs that the hub added, since somebody looked.
    added: Vec<HubAdded>,
    /// What a wallet agreed to pay for a channel's close, in satoshi: by its last ticket.
    agreed: BTreeMap<(usize, Bytes), u64>,
}

impl Net {
    pub fn new(chance: Chance, chronicle: Chronicle) -> Self {
        Net {
            links: BTreeMap::new(),
            next: 1,
            chance,
            chronicle,
            weather: Weather { max_delay_ms: 0 },
            tampers: BTreeMap::new(),
            overhears: BTreeSet::new(),
            overheard: Vec::new(),
            added: Vec::new(),
            agreed: BTreeMap::new(),
        }
    }

    pub fn set_weather(&mut self, weather: Weather) {
        self.weather = weather;
    }

    /// Whatever this one says goes through `tamper` from now on; `None`: as it is.
    pub fn set_tamper(&mut self, speaker: Speaker, tamper: Option<Tamper>) {
        self.overhears.insert(speaker);
        match tamper {
            Some(tamper) => drop(self.tampers.insert(speaker, tamper)),
            None => drop(self.tampers.remove(&speaker)),
        }
    }

    /// What arrived since this was last asked, said by those whose words were ever tampered with.
    pub fn overheard(&mut self) -> Vec<(LinkId, Bytes)> {
        std::mem::take(&mut self.overheard)
    }

    /// The wallet at the end of a link.
    pub fn wallet_of(&self, id: LinkId) -> Option<usize> {
        self.links.get(&id).map(|link| link.wallet)
    }

    /// Whether this link is whole and its wallet has no newer one.
    pub fn is_current(&self, id: LinkId) -> bool {
        let Some(link) = self.links.get(&id) else { return false };
        let whole = link.at_hub.is_some()
            && link.at_wallet.is_some()
            && link.up.ended.is_none()
            && link.down.ended.is_none();
        let newer = self.links.range(id..).skip(1).any(|(_, other)| other.wallet == link.wallet);
        whole && !newer
    }

    /// Connects the wallet with this number, which asked to be; the hub, which knows a chain of this height, is to serve the
    /// line returned.
    pub fn connect(&mut self, wallet: usize, dial: Dial, began_at: u32) -> (LinkId, HubLine) {
        let exporter = self.chance.bytes();
        let (at_hub, hub_end) = hub_line(exporter);
        let (at_wallet, wallet_end) = wallet_line(exporter, ::wallet::limits::FRAMES_OUT);
        dial.answer(at_wallet);
        let id = LinkId(self.next);
        self.next += 1;
        let link = Link {
            wallet,
            began_at,
            at_hub: Some(hub_end),
            at_wallet: Some(wallet_end),
            up: Pipe::default(),
            down: Pipe::default(),
            stalled_until_ms: 0,
            added: Vec::new(),
            agreed: Vec::new(),
        };
        self.links.insert(id, link);
        self.chronicle.note(format_args!("link {} of wallet {wallet}", id.0));
        (id, at_hub)
    }

    /// A wallet says something of which its process knows nothing, over its newest connection.
    pub fn say(&mut self, wallet: usize, frame: &Frame, now_ms: u64) {
        let newest = self.links.values_mut().rev().find(|link| link.wallet == wallet);
        if let Some(link) = newest.filter(|link| link.up.ended.is_none()) {
            link.up.carry(frame, now_ms, self.weather, &mut self.chance);
        }
    }

    /// The links there are.
    pub fn links(&self) -> Vec<LinkId> {
        self.links.keys().copied().collect()
    }

    /// Takes what both ends have to say and delivers what has arrived. True if anything moved.
    pub fn carry(&mut self, id: LinkId, now_ms: u64) -> bool {
        let Some(link) = self.links.get_mut(&id) else { return false };
        let speakers = [Speaker::Wallet(link.wallet), Speaker::Hub];
        let mut moved = link.take(now_ms, self.weather, &mut self.chance, &mut self.tampers);
        let (wallet, began_at) = (link.wallet, link.began_at);
        self.added.extend(link.added.drain(..).map(|add| HubAdded { wallet, began_at, add }));
        self.agreed.extend(link.agreed.drain(..).map(|(channel, fee)| ((wallet, channel), fee)));
        if now_ms >= link.stalled_until_ms {
            let overhears = speakers.map(|speaker| self.overhears.contains(&speaker));
            let mut arrived = |way: Way, bytes: &Bytes| {
                self.chronicle.frame(id.0, way.name(), bytes);
                let [up, down] = overhears;
                if way == Way::Up && up || way == Way::Down && down {
                    self.overheard.push((id, bytes.clone()));
                }
            };
            moved |= link.deliver(now_ms, &mut arrived);
        }
        if link.is_over() {
            self.links.remove(&id);
            self.chronicle.note(format_args!("link {} is over", id.0));
            return true;
        }
        moved
    }

    /// The latest link of a wallet.
    pub fn link_of(&self, wallet: usize) -> Option<LinkId> {
        let mut links = self.links.iter().rev();
        links.find(|(_, link)| link.wallet == wallet).map(|(id, _)| *id)
    }

    /// Blocks were undone: how high the chain was when links began says nothing any more.
    pub fn forget_heights(&mut self) {
        self.links.values_mut().for_each(|link| link.began_at = 0);
        self.added.clear();
    }

    /// What the hub added since this was asked.
    pub fn take_added(&mut self) -> Vec<HubAdded> {
        std::mem::take(&mut self.added)
    }

    /// What this wallet agreed to pay for the close of this channel, in satoshi.
    pub fn agreed_fee(&self, wallet: usize, channel_id: &Bytes) -> Option<u64> {
        self.agreed.get(&(wallet, channel_id.clone())).copied()
    }

    /// When something arrives next, of what is on its way.
    pub fn next_arrival_ms(&self) -> Option<u64> {
        let arrivals = self.links.values().flat_map(|link| {
            let firsts = [link.up.frames.front(), link.down.frames.front()];
            firsts.into_iter().flatten().map(|(at, _)| (*at).max(link.stalled_until_ms))
        });
        arrivals.min()
    }

    /// Cuts a link at some byte of what is on its way. Each end learns of it once what was before the cut has arrived, so the
    /// two may learn of it at very different times.
    pub fn cut(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.up.cut(&mut self.chance);
        link.down.cut(&mut self.chance);
        self.chronicle.note(format_args!("link {} is cut", id.0));
    }

    /// Nothing arrives over this link for a while.
    pub fn stall(&mut self, id: LinkId, until_ms: u64) {
        if let Some(link) = self.links.get_mut(&id) {
            link.stalled_until_ms = until_ms;
            self.chronicle.note(format_args!("link {} stalls", id.0));
        }
    }

    /// The wallet's process is gone: its ends are dead, and what it had sent still arrives, as far as some byte.
    pub fn wallet_died(&mut self, wallet: usize) {
        for link in self.links.values_mut().filter(|link| link.wallet == wallet) {
            link.at_wallet = None;
            link.down.frames.clear();
            link.up.cut(&mut self.chance);
        }
    }

    /// The same for the hub.
    pub fn hub_died(&mut self) {
        for link in self.links.values_mut() {
            link.at_hub = None;
            link.up.frames.clear();
            link.down.cut(&mut self.chance);
        }
    }
}

impl Link {
    fn take(
        &mut self,
        now_ms: u64,
        weather: Weather,
        chance: &mut Chance,
        tampers: &mut BTreeMap<Speaker, Tamper>,
    ) -> bool {
        let mut moved = false;
        while let Some(end) = &mut self.at_wallet
            && self.up.ended.is_none()
        {
            match end.from_wallet.try_recv() {
                Ok(frame) => {
                    self.agreed.extend(tickets_of(&frame));
                    let frames = said(tampers.get_mut(&Speaker::Wallet(self.wallet)), frame);
                    frames.iter().for_each(|frame| self.up.carry(frame, now_ms, weather, chance));
                }
                Err(TryRecvError::Disconnected) => self.up.ended = Some(End::Closed),
                Err(TryRecvError::Empty) => break,
            }
            moved = true;
        }
        while let Some(end) = &mut self.at_hub
            && self.down.ended.is_none()
        {
            match end.from_hub.try_recv() {
                Ok(Ok(frame)) => {
                    self.added.extend(adds_of(&frame));
                    let frames = said(tampers.get_mut(&Speaker::Hub), frame);
                    frames.iter().for_each(|frame| self.down.carry(frame, now_ms, weather, chance));
                }
                Ok(Err(status)) => self.down.ended = Some(End::With(status)),
                Err(TryRecvError::Disconnected) => self.down.ended = Some(End::Closed),
                Err(TryRecvError::Empty) => break,
            }
            moved = true;
        }
        moved
    }

    fn deliver(&mut self, now_ms: u64, arrived: &mut impl FnMut(Way, &Bytes)) -> bool {
        let mut moved = false;
        if let Some(end) = &self.at_hub {
            let (some, alive) = pour(&mut self.up, &end.to_hub, now_ms, |bytes| arrived(Way::Up, bytes));
            moved |= some || !alive;
            if !alive {
                self.at_hub = None;
                self.down.ended.get_or_insert(End::Broken);
            }
        }
        if let Some(end) = &self.at_wallet {
            let (some, alive) =
                pour(&mut self.down, &end.to_wallet, now_ms, |bytes| arrived(Way::Down, bytes));
            moved |= some || !alive;
            if !alive {
                self.at_wallet = None;
                self.up.ended.get_or_insert(End::Broken);
            }
        }
        moved
    }

    fn is_over(&self) -> bool {
        self.at_hub.is_none() && self.at_wallet.is_none()
    }
}

/// The fees of a frame's tickets, with their channels.
fn tickets_of(frame: &Frame) -> impl Iterator<Item = (Bytes, u64)> + '_ {
    let batch = match &frame.kind {
        Some(FrameKind::Batch(batch)) => Some(batch),
        Some(_) | None => None,
    };
    let channels = batch.into_iter().flat_map(|batch| &batch.channels);
    channels.flat_map(|channel| {
        channel.messages.iter().filter_map(|message| match &message.kind {
            Some(MessageKind::ClosingTicket(ticket)) => {
                Some((channel.channel_id.clone(), ticket.terms.as_ref()?.fee_sat))
            }
            Some(_) | None => None,
        })
    })
}

fn said(tamper: Option<&mut Tamper>, frame: Frame) -> Vec<Frame> {
    match tamper {
        Some(tamper) => tamper(frame),
        None => vec![frame],
    }
}

/// Delivers what has arrived, as far as the receiver has room. Whether anything was, and whether the receiver is still
/// there: it is not once it has been told the end.
fn pour(
    pipe: &mut Pipe,
    to: &mpsc::Sender<Result<Frame, Status>>,
    now_ms: u64,
    mut told: impl FnMut(&Bytes),
) -> (bool, bool) {
    let mut moved = false;
    while pipe.frames.front().is_some_and(|(at, _)| *at <= now_ms) {
        let permit = match to.try_reserve() {
            Ok(permit) => permit,
            Err(TrySendError::Full(())) => return (moved, true),
            Err(TrySendError::Closed(())) => return (moved, false),
        };
        let Some((_, bytes)) = pipe.frames.pop_front() else { break };
        told(&bytes);
        // What a hostile wallet sends may be no frame: gRPC says so.
        permit.send(Frame::decode(bytes).map_err(|error| Status::internal(error.to_string())));
        moved = true;
    }
    if pipe.frames.is_empty()
        && let Some(end) = &pipe.ended
    {
        let status = match end {
            End::Closed => return (true, false),
            End::Broken => Status::unavailable("the connection broke"),
            End::With(status) => status.clone(),
        };
        match to.try_send(Err(status)) {
            Ok(()) | Err(TrySendError::Closed(_)) => return (true, false),
            Err(TrySendError::Full(_)) => return (moved, true),
        }
    }
    (moved, !to.is_closed())
}
