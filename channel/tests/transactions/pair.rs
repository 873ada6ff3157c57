//! A channel between two signers, seen from both ends.

use bitcoin::hashes::Hash;
use bitcoin::{Amount, OutPoint, Transaction, TxOut, Txid};
use channel::amount::Msat;
use channel::bytes::{KeyId, PaymentPreimage};
use channel::commitment::{
    CommitmentSignatures, CommitmentSpec, CommitmentTransaction, HtlcDirection, HtlcSpec,
};
use channel::format::CommitmentFormat;
use channel::parameters::{ChannelContext, ChannelParameters, PartyParameters, Side};
use channel::seed_signer::SeedSigner;
use channel::signer::Signer;

pub const FUNDING: Amount = Amount::from_sat(1_000_000);
pub const DUST_LIMIT: Amount = Amount::from_sat(354);

/// One end of the channel.
pub struct Party {
    pub signer: SeedSigner,
    pub key: KeyId,
    pub context: ChannelContext,
}

/// The opener and the other; each is the holder of its own view.
pub struct Pair {
    pub opener: Party,
    pub accepter: Party,
}

pub fn pair(format: CommitmentFormat) -> Pair {
    let (opener, accepter) = (SeedSigner::new(&[1; 64]), SeedSigner::new(&[2; 64]));
    let (opener_key, accepter_key) = (KeyId::from_bytes([3; 32]), KeyId::from_bytes([4; 32]));
    let party = |signer: &SeedSigner, key, to_self_delay_blocks| PartyParameters {
        basepoints: signer.channel_public_keys(key),
        to_self_delay_blocks,
    };
    let parameters = ChannelParameters {
        format,
        funding_outpoint: OutPoint { txid: Txid::from_byte_array([5; 32]), vout: 1 },
        funding_amount: FUNDING,
        opener: Side::Holder,
        holder: party(&opener, &opener_key, 144),
        counterparty: party(&accepter, &accepter_key, 2_016),
        dust_limit: DUST_LIMIT,
    };
    let mirrored = ChannelParameters {
        opener: Side::Counterparty,
        holder: parameters.counterparty,
        counterparty: parameters.holder,
        ..parameters.clone()
    };
    let context = |parameters| ChannelContext::new(parameters).unwrap();
    Pair {
        opener: Party { signer: opener, key: opener_key, context: context(parameters) },
        accepter: Party { signer: accepter, key: accepter_key, context: context(mirrored) },
    }
}

impl Party {
    /// This party's own commitment, as it builds it.
    pub fn own(&self, spec: &CommitmentSpec) -> CommitmentTransaction {
        let outputs = self.context.htlc_outputs(spec);
        let keys = self.signer.holder_commitment_keys(&self.key, &self.context, spec.number, outputs);
        CommitmentTransaction::build(&self.context, Side::Holder, &keys, spec).unwrap()
    }

    /// The other party's commitment, as this party builds it, with its signatures.
    pub fn sign_for(
        &self,
        owner: &Party,
        spec: &CommitmentSpec,
    ) -> (CommitmentTransaction, CommitmentSignatures) {
        let point = owner.signer.per_commitment_point(&owner.key, spec.number).parse().unwrap();
        let outputs = self.context.htlc_outputs(spec);
        let keys = self.signer.counterparty_commitment_keys(&self.key, &self.context, &point, outputs);
        let commitment =
            CommitmentTransaction::build(&self.context, Side::Counterparty, &keys, spec).unwrap();
        let signatures =
            self.signer.sign_counterparty_commitment(&self.key, &self.context, &commitment).unwrap();
        (commitment, signatures)
    }
}

pub fn preimage() -> PaymentPreimage {
    PaymentPreimage::from_bytes([6; 32])
}

pub fn htlc(direction: HtlcDirection, id: u64, sat: u32) -> HtlcSpec {
    HtlcSpec {
        direction,
        id,
        amount: Msat::from_sat_u32(sat),
        payment_hash: preimage().payment_hash(),
        cltv_expiry: 800_000,
    }
}

/// Two HTLCs with outputs, one each way, and one that is trimmed.
pub fn spec_with_htlcs() -> CommitmentSpec {
    CommitmentSpec {
        number: 7,
        to_broadcaster: Msat::from_sat_u32(600_000),
        to_countersignatory: Msat::from_sat_u32(369_900),
        htlcs: vec![
            htlc(HtlcDirection::Offered, 0, 10_000),
            htlc(HtlcDirection::Received, 0, 20_000),
            htlc(HtlcDirection::Offered, 1, 100),
        ],
        feerate_sat_per_kw: 0,
    }
}

/// Whether Bitcoin's script interpreter accepts an input, with all rules of consensus but taproot's.
pub fn spends(transaction: &Transaction, input: usize, spent: &TxOut) -> bool {
    let bytes = bitcoin::consensus::serialize(transaction);
    bitcoinconsensus::verify(spent.script_pubkey.as_bytes(), spent.value.to_sat(), &bytes, None, input)
        .is_ok()
}
