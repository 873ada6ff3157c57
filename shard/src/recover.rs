//! Starting: from the journal's snapshots and records to the very channels that were.
//!
//! Records are folded without checks, curve operations or effects. A channel whose records have a gap, do not decode or
//! do not match the hash of its snapshot is set aside ([`Quarantined`]), and the others start.

use std::collections::{BTreeMap, BTreeSet};

use channel::bug::{self, Bug};
use channel::channel::{Channel, Input, PhaseView};
use channel::effect::Effect;
use channel::event::{Command, Event};
use channel::forward::Internal;
use channel::ids::OwnerId;
use channel::message::Recipient;
use journal::{Content, MachineId, ReadError, RecordRef, Recovery, Snapshot};

use crate::limits;
use crate::machine::MachineLog;
use crate::outlet::{ChainRequest, Outlet};
use crate::quarantine::{Evidence, Quarantined};
use crate::release::Outgoing;
use crate::revoked::unswept;
use crate::shard::{Fault, Setup, Shard, Turned};
use crate::snapshots::Payload;
use crate::table::Hosted;

/// A channel on its way back.
struct Rebuilt {
    log: MachineLog,
    channel: Option<Channel>,
    /// The first thing found wrong; nothing is folded after it.
    broken: Option<String>,
    /// Set aside by an earlier run already.
    evidence: Option<Box<Evidence>>,
}

impl Rebuilt {
    fn new(machine: MachineId) -> Self {
        Rebuilt { log: MachineLog::new(machine), channel: None, broken: None, evidence: None }
    }

    fn from_snapshot(snapshot: &Snapshot) -> Option<Self> {
        let Content::State { payload, hash } = &snapshot.content else { return None };
        let mut rebuilt = Self::new(snapshot.machine);
        rebuilt.log = MachineLog::at(snapshot.machine, snapshot.sequence);
        match Payload::decode(payload) {
            Payload::State(state) => match Channel::decode_snapshot(state) {
                Ok(channel) => {
                    if Channel::snapshot_hash(state) != *hash {
                        rebuilt.broken = Some("the snapshot's hash is not that of its state".to_owned());
                    } else if channel.owner() != OwnerId(snapshot.machine.0) {
                        rebuilt.broken = Some("the snapshot is of another channel".to_owned());
                    }
                    rebuilt.channel = Some(channel);
                }
                Err(error) => rebuilt.broken = Some(format!("the snapshot does not decode: {error}")),
            },
            Payload::Evidence(evidence) => {
                rebuilt.broken = Some(evidence.why.clone());
                rebuilt.evidence = Some(evidence);
            }
            Payload::Unknown => rebuilt.broken = Some("the snapshot is of no known kind".to_owned()),
        }
        Some(rebuilt)
    }

    fn fold(&mut self, record: &RecordRef<'_>, effects: &mut Vec<Effect>) {
        if self.broken.is_some() {
            // Numbers go on rising, so that the evidence can be written as a snapshot of the latest.
            self.log = MachineLog::at(record.machine, record.sequence);
            return;
        }
        if let Err(why) = self.try_fold(record, effects) {
            self.broken = Some(why);
            self.log = MachineLog::at(record.machine, record.sequence);
        }
        effects.clear();
    }

    fn try_fold(&mut self, record: &RecordRef<'_>, effects: &mut Vec<Effect>) -> Result<(), String> {
        self.log.replay(record).map_err(|gap| gap.to_string())?;
        let number = record.sequence;
        let input = Input::decode(record.payload).map_err(|e| format!("record {number}: {e}"))?;
        match &mut self.channel {
            Some(channel) => channel.apply(&input, effects),
            None => {
                let channel =
                    Channel::from_first(&input, effects).map_err(|e| format!("record {number}: {e}"))?;
                if channel.owner() != OwnerId(record.machine.0) {
                    return Err(format!("record {number}: it opens another channel"));
                }
                self.channel = Some(channel);
            }
        }
        Ok(())
    }
}

impl Shard {
    /// Rebuilds the channels for which `mine` says so from what the journal held when it was opened. Several shards may do so at once.
    /// Then call [`Shard::start`].
    pub fn recover(
        setup: Setup,
        recovery: &Recovery,
        mine: impl Fn(OwnerId) -> bool,
    ) -> Result<Shard, ReadError> {
        let mut rebuilt: BTreeMap<OwnerId, Rebuilt> = BTreeMap::new();
        for snapshot in recovery.snapshots()? {
            let snapshot = snapshot?;
            let owner = OwnerId(snapshot.machine.0);
            if mine(owner)
                && let Some(channel) = Rebuilt::from_snapshot(&snapshot)
            {
                rebuilt.insert(owner, channel);
            }
        }
        let mut effects = Vec::new();
        let mut records = recovery.records()?;
        while let Some(record) = records.next()? {
            let owner = OwnerId(record.machine.0);
            if mine(owner) {
                let channel = rebuilt.entry(owner).or_insert_with(|| Rebuilt::new(record.machine));
                channel.fold(&record, &mut effects);
            }
        }
        let broken: BTreeSet<OwnerId> =
            rebuilt.iter().filter(|(_, r)| r.broken.is_some()).map(|(owner, _)| *owner).collect();
        let mut evidence = collect_evidence(recovery, &broken)?;
        let mut shard = Shard::new(setup);
        shard.sweeps = unswept(&shard.reader, &mine)?;
        for (owner, channel) in rebuilt {
            shard.host_rebuilt(owner, channel, evidence.remove(&owner));
        }
        Ok(shard)
    }

    fn host_rebuilt(&mut self, owner: OwnerId, rebuilt: Rebuilt, evidence: Option<Evidence>) {
        let Rebuilt { log, channel, broken, evidence: earlier } = rebuilt;
        match (channel, broken) {
            (Some(channel), None) => {
                let hosted = Hosted::new(channel, log);
                self.table.insert(hosted);
            }
            (channel, broken) => {
                let why = broken.unwrap_or_else(|| "there is no record of it".to_owned());
                tracing::error!(owner = owner.0, %why, "a channel is set aside: its records do not fold");
                let mut evidence = earlier.map_or_else(|| evidence.unwrap_or_default(), |earlier| *earlier);
                if let Some(channel) = &channel {
                    evidence.channel_id = Some(channel.channel_id());
                    evidence.node = Some(channel.counterparty_node());
                }
                evidence.why.clone_from(&why);
                let (channel_id, node) = (evidence.channel_id, evidence.node);
                let quarantined =
                    Quarantined { owner, channel_id, node, why, log, evidence, snapshot_queued: false };
                self.quarantine.insert(owner, quarantined);
            }
        }
    }

    /// The first turn after [`Shard::recover`], before any other: a restart is a disconnect for every channel, and that is
    /// journaled before anything else. The chain's side is asked to watch what must be watched.
    ///
    /// Then follow the chain to its tip, handing in its news by turns; then call [`Shard::resume`].
    pub fn start(&mut self, now_ms: u64, outlet: &mut impl Outlet) -> Result<Turned, Fault> {
        self.begin(now_ms)?;
        for slot in self.table.after(None).collect::<Vec<_>>() {
            self.table.get_mut(slot).touched = true;
            self.turn.touched.push(slot);
            if self.table.get(slot).channel.session().is_some()
                && let Err(refusal) = self.submit(slot, Event::Command(Command::Disconnected))
            {
                let owner = self.table.get(slot).owner.0;
                tracing::error!(owner, %refusal, "a channel took no notice of the restart");
            }
            self.resume_channel(slot, Stage::Watch);
            if let PhaseView::Failed { cause } = self.table.get(slot).channel.phase()
                && cause.proves_old_data()
            {
                let (owner, request) = (self.table.get(slot).owner, ChainRequest::ProvenBehind);
                self.turn.pending.push(Outgoing::Chain { owner, request });
            }
        }
        self.close(outlet)
    }

    /// After the chain was followed to its tip: every unresolved forward, unacknowledged result, broadcast and ticket goes
    /// out again. Keys make the repeats harmless.
    pub fn resume(&mut self, now_ms: u64, outlet: &mut impl Outlet) -> Result<Turned, Fault> {
        self.begin(now_ms)?;
        for slot in self.table.after(None).collect::<Vec<_>>() {
            self.resume_channel(slot, Stage::Rest);
        }
        self.settle();
        self.close(outlet)
    }

    fn resume_channel(&mut self, slot: crate::table::SlotId, stage: Stage) {
        let mut effects = Vec::new();
        self.table.get(slot).channel.resume(&mut effects);
        for effect in effects {
            let effect = if bug::is(Bug::ChoiceNotJournaled) { self.chosen_again(effect) } else { effect };
            let watch = matches!(effect, Effect::WatchFunding { .. });
            if watch == (stage == Stage::Watch) {
                self.perform(slot, effect);
            }
        }
    }
}

impl Shard {
    /// The same, but an offer goes to another channel of the same recipient, if it has one here.
    fn chosen_again(&self, effect: Effect) -> Effect {
        let Effect::Internal { to, message: Internal::Offer(offer) } = effect else { return effect };
        let chosen = match &offer.recipient {
            Recipient::Node(node) => {
                let mut owners = self.table.of_node(node, None).map(|slot| self.table.get(slot).owner);
                owners.find(|owner| *owner != to)
            }
            Recipient::Stream { .. } => None,
        };
        Effect::Internal { to: chosen.unwrap_or(to), message: Internal::Offer(offer) }
    }
}

/// What of a channel's repeats goes out when.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Before the chain is followed: it could not report what nobody watches.
    Watch,
    /// After.
    Rest,
}

/// Reads the journal again for the channels that are broken; there are next to none.
fn collect_evidence(
    recovery: &Recovery,
    broken: &BTreeSet<OwnerId>,
) -> Result<BTreeMap<OwnerId, Evidence>, ReadError> {
    let mut all: BTreeMap<OwnerId, Evidence> = BTreeMap::new();
    if broken.is_empty() {
        return Ok(all);
    }
    for snapshot in recovery.snapshots()? {
        let snapshot = snapshot?;
        let owner = OwnerId(snapshot.machine.0);
        if let (true, Content::State { payload, hash }) = (broken.contains(&owner), snapshot.content) {
            let evidence = all.entry(owner).or_default();
            if payload.len() <= limits::MAX_EVIDENCE_BYTES {
                evidence.snapshot = Some((snapshot.sequence, payload, hash));
            } else {
                evidence.cut = true;
            }
        }
    }
    let mut sizes: BTreeMap<OwnerId, usize> = BTreeMap::new();
    let mut records = recovery.records()?;
    while let Some(record) = records.next()? {
        let owner = OwnerId(record.machine.0);
        if !broken.contains(&owner) {
            continue;
        }
        let evidence = all.entry(owner).or_default();
        let size = sizes
            .entry(owner)
            .or_insert_with(|| evidence.snapshot.as_ref().map_or(0, |(_, payload, _)| payload.len()));
        *size += record.payload.len();
        if evidence.cut || *size > limits::MAX_EVIDENCE_BYTES {
            evidence.cut = true;
        } else {
            evidence.records.push((record.sequence, record.payload.to_vec()));
        }
    }
    Ok(all)
}
