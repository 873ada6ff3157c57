//! Channels whose commitment is in a block, and everything that is the hub's there.

use bitcoin::hashes::Hash;
use bitcoin::{Amount, OutPoint, Transaction, TxOut, Txid};
use channel::amount::Msat;
use channel::bytes::{KeyId, PaymentHash, PaymentPreimage};
use channel::channel::PublishJob;
use channel::claim::{Claim, Found, Own, OwnHtlc, Revoked, Theirs};
use channel::commitment::{
    CommitmentSignatures, CommitmentSpec, CommitmentTransaction, HtlcDirection, HtlcSpec, OutputKind,
};
use channel::format::CommitmentFormat;
use channel::ids::{ChannelId, OwnerId};
use channel::parameters::{ChannelContext, ChannelParameters, PartyParameters, Side};
use channel::signer::Signer;
use settlement::claim::{Built, ClaimRequest, Group, OwnedClaim};
use settlement::fees::FeeBounds;
use settlement::verify::{BatchCoin, ClaimJob, CloseJob};

use super::{KeyCoins, hub, hub_script, sat, wallet};

/// The height of the block with the commitment.
pub const HEIGHT: u32 = 799_000;
/// The height of the block with the HTLC transactions.
pub const SECOND_HEIGHT: u32 = 799_100;
/// When the HTLCs of [`htlc`] expire.
pub const EXPIRY: u32 = 799_500;
/// The hub's delay and the wallet's.
pub const DELAYS: [u16; 2] = [2_016, 144];

/// The channel of the hub and a wallet, seen from both ends.
pub struct Channel {
    pub number: u32,
    pub key_id: KeyId,
    pub hub: ChannelContext,
    pub wallet: ChannelContext,
}

pub fn channel(number: u32) -> Channel {
    channel_of_format(number, CommitmentFormat::ZeroFeeCommitments)
}

pub fn channel_of_format(number: u32, format: CommitmentFormat) -> Channel {
    let mut id = [8; 32];
    id[..4].copy_from_slice(&number.to_be_bytes());
    let key_id = KeyId::from_bytes(id);
    let mut txid = [0xbb; 32];
    txid[..4].copy_from_slice(&number.to_be_bytes());
    let party = |signer: &dyn Signer, to_self_delay_blocks| PartyParameters {
        basepoints: signer.channel_public_keys(&key_id),
        to_self_delay_blocks,
    };
    let parameters = ChannelParameters {
        format,
        funding_outpoint: OutPoint { txid: Txid::from_byte_array(txid), vout: 0 },
        funding_amount: sat(2_000_000),
        opener: Side::Holder,
        holder: party(&hub(), DELAYS[0]),
        counterparty: party(&wallet(), DELAYS[1]),
        dust_limit: sat(354),
    };
    let mirrored = ChannelParameters {
        opener: Side::Counterparty,
        holder: parameters.counterparty,
        counterparty: parameters.holder,
        ..parameters.clone()
    };
    Channel {
        number,
        key_id,
        hub: ChannelContext::new(parameters).unwrap(),
        wallet: ChannelContext::new(mirrored).unwrap(),
    }
}

pub fn preimage(id: u64) -> PaymentPreimage {
    let mut bytes = [6; 32];
    bytes[..8].copy_from_slice(&id.to_be_bytes());
    PaymentPreimage::from_bytes(bytes)
}

pub fn payment_hash(id: u64) -> PaymentHash {
    preimage(id).payment_hash()
}

/// Direction as the owner of the commitment sees it.
pub fn htlc(direction: HtlcDirection, id: u64, amount_sat: u32) -> HtlcSpec {
    HtlcSpec {
        direction,
        id,
        amount: Msat::from_sat_u32(amount_sat),
        payment_hash: payment_hash(id),
        cltv_expiry: EXPIRY,
    }
}

/// One HTLC each way, 40,000 and 60,000 satoshi.
pub fn two_htlcs() -> Vec<HtlcSpec> {
    vec![htlc(HtlcDirection::Offered, 0, 40_000), htlc(HtlcDirection::Received, 1, 60_000)]
}

fn found(transaction: &Transaction, index: u32, height: u32) -> Found {
    Found {
        outpoint: OutPoint { txid: transaction.compute_txid(), vout: index },
        output: transaction.output[index as usize].clone(),
        height,
    }
}

fn at(commitment: &CommitmentTransaction, kind: OutputKind) -> Found {
    found(commitment.transaction(), commitment.output_index(kind).unwrap(), HEIGHT)
}

impl Channel {
    pub fn owner(&self) -> OwnerId {
        OwnerId(u64::from(self.number))
    }

    fn spec(&self, htlcs: Vec<HtlcSpec>) -> CommitmentSpec {
        let in_flight = htlcs.iter().fold(Msat::ZERO, |sum, htlc| sum.checked_add(htlc.amount).unwrap());
        let other = Msat::from_sat_u32(700_000);
        let whole = Msat::from_sat_u32(2_000_000);
        let rest = whole.checked_sub(in_flight).unwrap().checked_sub(other).unwrap();
        CommitmentSpec {
            number: 7,
            to_broadcaster: rest,
            to_countersignatory: other,
            htlcs,
            feerate_sat_per_kw: 0,
        }
    }

    /// The hub's own commitment and the wallet's signatures of it.
    pub fn own(&self, htlcs: Vec<HtlcSpec>) -> (CommitmentTransaction, CommitmentSignatures) {
        let (spec, hub, wallet) = (self.spec(htlcs), hub(), wallet());
        let outputs = self.hub.htlc_outputs(&spec);
        let keys = hub.holder_commitment_keys(&self.key_id, &self.hub, spec.number, outputs);
        let commitment = CommitmentTransaction::build(&self.hub, Side::Holder, &keys, &spec).unwrap();
        let point = hub.per_commitment_point(&self.key_id, spec.number).parse().unwrap();
        let keys = wallet.counterparty_commitment_keys(&self.key_id, &self.wallet, &point, outputs);
        let theirs = CommitmentTransaction::build(&self.wallet, Side::Counterparty, &keys, &spec).unwrap();
        let signatures = wallet.sign_counterparty_commitment(&self.key_id, &self.wallet, &theirs).unwrap();
        (commitment, signatures)
    }

    /// The hub's own commitment, to be published.
    pub fn publish(&self, htlcs: Vec<HtlcSpec>) -> PublishJob {
        let (commitment, counterparty_signatures) = self.own(htlcs);
        let signature = hub().sign_holder_commitment(&self.key_id, &self.hub, &commitment).unwrap();
        let transaction =
            commitment.signed(&self.hub, &signature, &counterparty_signatures.commitment).unwrap();
        PublishJob {
            owner: self.owner(),
            channel_id: ChannelId([9; 32]),
            key_id: self.key_id,
            funding_amount: self.hub.parameters().funding_amount,
            commitment,
            counterparty_signatures,
            transaction,
            preimages: Vec::new(),
            funding_script: self.hub.funding_script().clone(),
            proven_current: true,
            deadline: None,
            value_at_stake: sat(1_000_000),
            value_in_time: sat(1_000_000),
            for_counterparty: false,
        }
    }

    /// What the hub may take of its own commitment: balance, HTLCs and their second stages.
    pub fn own_claims(&self, htlcs: Vec<HtlcSpec>) -> Vec<OwnedClaim> {
        let (commitment, signatures) = self.own(htlcs);
        let own = Own { context: &self.hub, keys: commitment.keys(), number: commitment.number() };
        let mut claims = vec![own.to_local(at(&commitment, OutputKind::ToBroadcaster))];
        for (position, output) in commitment.htlcs().iter().enumerate() {
            let htlc = OwnHtlc {
                htlc: &output.htlc,
                countersignature: &signatures.htlcs[position],
                preimage: Some(&preimage(output.htlc.id)),
            };
            claims.push(own.htlc(htlc, at(&commitment, OutputKind::Htlc { position })).unwrap());
        }
        for (output, second) in commitment.htlcs().iter().zip(commitment.htlc_transactions()) {
            let second = found(second.transaction(), 0, SECOND_HEIGHT);
            claims.push(own.second_stage(output.htlc.id, second));
        }
        self.owned(claims)
    }

    /// What the hub may take of the wallet's commitment.
    pub fn their_claims(&self, htlcs: Vec<HtlcSpec>) -> Vec<OwnedClaim> {
        let commitment = self.theirs(htlcs);
        let theirs = Theirs { context: &self.hub, keys: commitment.keys() };
        let mut claims = vec![theirs.to_remote(at(&commitment, OutputKind::ToCountersignatory))];
        for (position, output) in commitment.htlcs().iter().enumerate() {
            let (at, preimage) = (at(&commitment, OutputKind::Htlc { position }), preimage(output.htlc.id));
            claims.push(theirs.htlc(&output.htlc, Some(&preimage), at).unwrap());
        }
        self.owned(claims)
    }

    /// What the hub may take of a revoked commitment of the wallet's, second stages included.
    pub fn penalties(&self, htlcs: Vec<HtlcSpec>) -> Vec<OwnedClaim> {
        let commitment = self.theirs(htlcs);
        let secret = wallet().release_secret(&self.key_id, commitment.number());
        let revoked = Revoked { context: &self.hub, keys: commitment.keys(), secret: &secret };
        let mut claims = vec![
            revoked.to_remote(at(&commitment, OutputKind::ToCountersignatory)),
            revoked.to_local(at(&commitment, OutputKind::ToBroadcaster)),
        ];
        for (position, output) in commitment.htlcs().iter().enumerate() {
            claims.push(revoked.htlc(&output.htlc, at(&commitment, OutputKind::Htlc { position })).unwrap());
        }
        for second in commitment.htlc_transactions() {
            claims.push(revoked.second_stage(found(second.transaction(), 0, SECOND_HEIGHT)));
        }
        self.owned(claims)
    }

    fn theirs(&self, htlcs: Vec<HtlcSpec>) -> CommitmentTransaction {
        let (spec, hub, wallet) = (self.spec(htlcs), hub(), wallet());
        let outputs = self.hub.htlc_outputs(&spec);
        let point = wallet.per_commitment_point(&self.key_id, spec.number).parse().unwrap();
        let keys = hub.counterparty_commitment_keys(&self.key_id, &self.hub, &point, outputs);
        CommitmentTransaction::build(&self.hub, Side::Counterparty, &keys, &spec).unwrap()
    }

    fn owned(&self, claims: Vec<Claim>) -> Vec<OwnedClaim> {
        let (owner, key_id) = (self.owner(), self.key_id);
        claims.into_iter().map(|claim| OwnedClaim { owner, key_id, claim }).collect()
    }
}

/// The height at which the last of these claims is ripe and not one before.
pub fn ripe(claims: &[OwnedClaim]) -> u32 {
    claims.iter().map(|owned| owned.claim.earliest_height).max().unwrap() - 1
}

/// 2.5 sat/vB without a limit of its own, no coins, nothing replaced.
pub fn claim_request<'a>(group: &'a Group, tip: u32, script: &'a bitcoin::ScriptBuf) -> ClaimRequest<'a> {
    ClaimRequest {
        group,
        tip,
        coins: &[],
        script,
        feerate: bitcoin::FeeRate::from_sat_per_kwu(625),
        budget: Amount::MAX_MONEY,
        bounds: FeeBounds::default(),
        replaces: &[],
    }
}

/// Builds the group's transaction, with these coins where it needs any.
pub fn build(group: &Group, tip: u32, coins: &[BatchCoin]) -> Built {
    let script = hub_script();
    let request = ClaimRequest { coins, ..claim_request(group, tip, &script) };
    settlement::claim::build(&request, &hub(), &KeyCoins::new()).unwrap()
}

pub fn claim_job(job: &CloseJob) -> &ClaimJob {
    match job {
        CloseJob::Claim(job) => job,
        CloseJob::Batch(_) | CloseJob::Unilateral(_) | CloseJob::Bump(_) => panic!("not a claim"),
    }
}

/// The outputs that a claim's transaction spends, in the order of its inputs.
pub fn claimed_outputs(job: &ClaimJob) -> Vec<TxOut> {
    let claims = job.claims.iter().map(|claim| claim.output.clone());
    claims.chain(job.coins.iter().map(|coin| coin.output.clone())).collect()
}
