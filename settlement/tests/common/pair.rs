//! A channel of two seeds on any chain: its commitments, signed by both, and what each end may take of them.
//!
//! It knows nothing of the other helpers, so that the tests against a real node use it too.

use bitcoin::{Amount, OutPoint, Transaction, TxOut};
use channel::amount::Msat;
use channel::bytes::{KeyId, PaymentPreimage};
use channel::channel::PublishJob;
use channel::claim::{Claim, Found, OnchainPlan, Own, OwnHtlc, Revoked, Theirs};
use channel::commitment::{
    CommitmentSignatures, CommitmentSpec, CommitmentTransaction, HtlcDirection, HtlcSpec, OutputKind,
};
use channel::format::CommitmentFormat;
use channel::ids::{ChannelId, OwnerId};
use channel::keys::Point;
use channel::parameters::{ChannelContext, ChannelParameters, PartyParameters, Side};
use channel::scripts;
use channel::seed_signer::SeedSigner;
use channel::signer::Signer;

pub const CAPACITY: Amount = Amount::from_sat(1_000_000);
/// Blocks that the hub waits for its own balance, and the wallet: as long as fees need to rise from patience to despair.
pub const DELAYS: [u16; 2] = [3, 30];

/// An end of the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Hub,
    Wallet,
}

pub fn signer(end: End) -> SeedSigner {
    match end {
        End::Hub => SeedSigner::new(&[1; 64]),
        End::Wallet => SeedSigner::new(&[2; 64]),
    }
}

/// An HTLC that `from` offered.
#[derive(Clone, Copy, Debug)]
pub struct Htlc {
    pub from: End,
    pub id: u64,
    pub sat: u32,
    pub expiry: u32,
}

pub fn preimage(id: u64) -> PaymentPreimage {
    let mut bytes = [6; 32];
    bytes[..8].copy_from_slice(&id.to_be_bytes());
    PaymentPreimage::from_bytes(bytes)
}

fn key_id(number: u32) -> KeyId {
    let mut id = [8; 32];
    id[..4].copy_from_slice(&number.to_be_bytes());
    KeyId::from_bytes(id)
}

/// What holds channel `number`.
pub fn funding_output(number: u32) -> TxOut {
    let key = |end| -> Point { signer(end).channel_public_keys(&key_id(number)).funding };
    let script = scripts::funding_of_points(&key(End::Hub), &key(End::Wallet));
    TxOut { value: CAPACITY, script_pubkey: scripts::p2wsh(&script) }
}

/// The channel, once it is known where it is funded.
pub struct Pair {
    pub number: u32,
    pub funding: OutPoint,
    key_id: KeyId,
    hub: ChannelContext,
    wallet: ChannelContext,
}

/// A commitment of one end's.
pub struct Commitment {
    pub of: End,
    pub built: CommitmentTransaction,
    signatures: CommitmentSignatures,
    /// Signed by both.
    pub transaction: Transaction,
}

impl Commitment {
    pub fn outpoint(&self, kind: OutputKind) -> OutPoint {
        let vout = self.built.output_index(kind).unwrap();
        OutPoint { txid: self.built.txid(), vout }
    }

    fn found(&self, kind: OutputKind, height: u32) -> Found {
        let outpoint = self.outpoint(kind);
        let output = self.transaction.output[outpoint.vout as usize].clone();
        Found { outpoint, output, height }
    }

    fn has(&self, kind: OutputKind) -> bool {
        self.built.output_index(kind).is_some()
    }
}

impl Pair {
    pub fn new(number: u32, funding: OutPoint) -> Self {
        let key_id = key_id(number);
        let party = |end| PartyParameters {
            basepoints: signer(end).channel_public_keys(&key_id),
            to_self_delay_blocks: match end {
                End::Hub => DELAYS[0],
                End::Wallet => DELAYS[1],
            },
        };
        let parameters = |holder, counterparty, opener| ChannelParameters {
            format: CommitmentFormat::ZeroFeeCommitments,
            funding_outpoint: funding,
            funding_amount: CAPACITY,
            opener,
            holder: party(holder),
            counterparty: party(counterparty),
            dust_limit: Amount::from_sat(354),
        };
        let hub = ChannelContext::new(parameters(End::Hub, End::Wallet, Side::Holder)).unwrap();
        let wallet = ChannelContext::new(parameters(End::Wallet, End::Hub, Side::Counterparty)).unwrap();
        Self { number, funding, key_id, hub, wallet }
    }

    pub fn owner(&self) -> OwnerId {
        OwnerId(u64::from(self.number) + 7_000)
    }

    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    fn context(&self, end: End) -> &ChannelContext {
        match end {
            End::Hub => &self.hub,
            End::Wallet => &self.wallet,
        }
    }

    /// The commitment `number` of this end; both have the half of what no HTLC holds.
    pub fn commitment(&self, of: End, number: u64, htlcs: &[Htlc]) -> Commitment {
        let spec = spec(of, number, htlcs);
        let other = if of == End::Hub { End::Wallet } else { End::Hub };
        let (holder, counterparty) = (signer(of), signer(other));
        let (ours, theirs) = (self.context(of), self.context(other));
        let outputs = ours.htlc_outputs(&spec);
        let keys = holder.holder_commitment_keys(&self.key_id, ours, number, outputs);
        let built = CommitmentTransaction::build(ours, Side::Holder, &keys, &spec).unwrap();
        let point = holder.per_commitment_point(&self.key_id, number).parse().unwrap();
        let keys = counterparty.counterparty_commitment_keys(&self.key_id, theirs, &point, outputs);
        let mirrored = CommitmentTransaction::build(theirs, Side::Counterparty, &keys, &spec).unwrap();
        let signatures = counterparty.sign_counterparty_commitment(&self.key_id, theirs, &mirrored).unwrap();
        let own = holder.sign_holder_commitment(&self.key_id, ours, &built).unwrap();
        let transaction = built.signed(ours, &own, &signatures.commitment).unwrap();
        Commitment { of, built, signatures, transaction }
    }

    /// What the commitment's owner asks to publish.
    pub fn publish(&self, commitment: &Commitment, deadline: Option<u32>) -> PublishJob {
        PublishJob {
            owner: self.owner(),
            channel_id: ChannelId([9; 32]),
            key_id: self.key_id,
            funding_amount: CAPACITY,
            commitment: commitment.built.clone(),
            counterparty_signatures: commitment.signatures.clone(),
            transaction: commitment.transaction.clone(),
            preimages: Vec::new(),
            funding_script: self.context(commitment.of).funding_script().clone(),
            proven_current: true,
            deadline,
            value_at_stake: CAPACITY / 2,
            value_in_time: CAPACITY / 2,
            for_counterparty: false,
        }
    }

    /// The plan of a channel that wants this.
    pub fn plan(&self, publish: Option<PublishJob>, claims: Vec<Claim>) -> OnchainPlan {
        OnchainPlan {
            owner: self.owner(),
            channel_id: ChannelId([9; 32]),
            key_id: self.key_id,
            publish,
            claims,
        }
    }

    /// What its owner may take of a commitment in a block at `height`: balance and HTLCs, every preimage known.
    pub fn own_claims(&self, commitment: &Commitment, height: u32) -> Vec<Claim> {
        let built = &commitment.built;
        let own = Own { context: self.context(commitment.of), keys: built.keys(), number: built.number() };
        let mut claims = vec![own.to_local(commitment.found(OutputKind::ToBroadcaster, height))];
        for (position, output) in built.htlcs().iter().enumerate() {
            let preimage = preimage(output.htlc.id);
            let htlc = OwnHtlc {
                htlc: &output.htlc,
                countersignature: &commitment.signatures.htlcs[position],
                preimage: Some(&preimage),
            };
            claims.push(own.htlc(htlc, commitment.found(OutputKind::Htlc { position }, height)).unwrap());
        }
        claims
    }

    /// What its owner may take of the outputs that an HTLC transaction of its commitment paired.
    pub fn second_stages(&self, commitment: &Commitment, by: &Transaction, height: u32) -> Vec<Claim> {
        let built = &commitment.built;
        let own = Own { context: self.context(commitment.of), keys: built.keys(), number: built.number() };
        let delayed = scripts::p2wsh(&own.scripts().delayed_script());
        let mut claims = Vec::new();
        for (position, output) in built.htlcs().iter().enumerate() {
            let spent = commitment.outpoint(OutputKind::Htlc { position });
            let Some(index) = by.input.iter().position(|input| input.previous_output == spent) else {
                continue;
            };
            // The other end's spend of an HTLC has nothing for us.
            let paired = by.output.get(index).filter(|paired| paired.script_pubkey == delayed);
            if let Some(paired) = paired {
                let outpoint = OutPoint { txid: by.compute_txid(), vout: u32::try_from(index).unwrap() };
                let found = Found { outpoint, output: paired.clone(), height };
                claims.push(own.second_stage(output.htlc.id, found));
            }
        }
        claims
    }

    /// What the other end may take of a commitment in a block, every preimage known.
    pub fn their_claims(&self, commitment: &Commitment, height: u32) -> Vec<Claim> {
        let (context, keys) = self.seen_by_other(commitment);
        let theirs = Theirs { context, keys: &keys };
        let mut claims = Vec::new();
        if commitment.has(OutputKind::ToCountersignatory) {
            claims.push(theirs.to_remote(commitment.found(OutputKind::ToCountersignatory, height)));
        }
        for (position, output) in commitment.built.htlcs().iter().enumerate() {
            let found = commitment.found(OutputKind::Htlc { position }, height);
            claims.push(theirs.htlc(&output.htlc, Some(&preimage(output.htlc.id)), found).unwrap());
        }
        claims
    }

    /// What the other end may take of a revoked commitment in a block: everything.
    pub fn penalties(&self, commitment: &Commitment, height: u32) -> Vec<Claim> {
        let (context, keys) = self.seen_by_other(commitment);
        let secret = signer(commitment.of).release_secret(&self.key_id, commitment.built.number());
        let revoked = Revoked { context, keys: &keys, secret: &secret };
        let mut claims = vec![
            revoked.to_remote(commitment.found(OutputKind::ToCountersignatory, height)),
            revoked.to_local(commitment.found(OutputKind::ToBroadcaster, height)),
        ];
        for (position, output) in commitment.built.htlcs().iter().enumerate() {
            let found = commitment.found(OutputKind::Htlc { position }, height);
            claims.push(revoked.htlc(&output.htlc, found).unwrap());
        }
        claims
    }

    /// What the other end may take of the outputs that an HTLC transaction of a revoked commitment paired.
    pub fn second_penalties(&self, commitment: &Commitment, by: &Transaction, height: u32) -> Vec<Claim> {
        let (context, keys) = self.seen_by_other(commitment);
        let secret = signer(commitment.of).release_secret(&self.key_id, commitment.built.number());
        let revoked = Revoked { context, keys: &keys, secret: &secret };
        let delayed = scripts::p2wsh(&revoked.scripts().delayed_script());
        let outputs = (0u32..).zip(&by.output).filter(|(_, output)| output.script_pubkey == delayed);
        let found = outputs.map(|(vout, output)| Found {
            outpoint: OutPoint { txid: by.compute_txid(), vout },
            output: output.clone(),
            height,
        });
        found.map(|found| revoked.second_stage(found)).collect()
    }

    fn seen_by_other(&self, commitment: &Commitment) -> (&ChannelContext, channel::keys::CommitmentKeys) {
        let other = if commitment.of == End::Hub { End::Wallet } else { End::Hub };
        let context = self.context(other);
        let point = signer(commitment.of).per_commitment_point(&self.key_id, commitment.built.number());
        let outputs = self.context(commitment.of).htlc_outputs(&CommitmentSpec {
            number: commitment.built.number(),
            to_broadcaster: Msat::ZERO,
            to_countersignatory: Msat::ZERO,
            htlcs: commitment.built.htlcs().iter().map(|output| output.htlc).collect(),
            feerate_sat_per_kw: 0,
        });
        let keys = signer(other).counterparty_commitment_keys(
            &self.key_id,
            context,
            &point.parse().unwrap(),
            outputs,
        );
        (context, keys)
    }
}

fn spec(of: End, number: u64, htlcs: &[Htlc]) -> CommitmentSpec {
    let in_flight: u32 = htlcs.iter().map(|htlc| htlc.sat).sum();
    let rest = u32::try_from(CAPACITY.to_sat()).unwrap() - in_flight;
    let htlcs = htlcs.iter().map(|htlc| HtlcSpec {
        direction: if htlc.from == of { HtlcDirection::Offered } else { HtlcDirection::Received },
        id: htlc.id,
        amount: Msat::from_sat_u32(htlc.sat),
        payment_hash: preimage(htlc.id).payment_hash(),
        cltv_expiry: htlc.expiry,
    });
    CommitmentSpec {
        number,
        to_broadcaster: Msat::from_sat_u32(rest / 2),
        to_countersignatory: Msat::from_sat_u32(rest - rest / 2),
        htlcs: htlcs.collect(),
        feerate_sat_per_kw: 0,
    }
}
