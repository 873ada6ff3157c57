//! A [`Signer`] in memory: every secret follows from a BIP 39 seed and, for a channel, its key id.
//!
//! | path (all hardened) | what |
//! | --- | --- |
//! | `m/9735'/0'` | the node's key |
//! | `m/9735'/1'/<key id>/0'..3'` | a channel's funding, revocation, delayed payment and HTLC keys |
//! | `m/9735'/1'/<key id>/4'` | the seed of a channel's per-commitment secrets |
//! | `m/9735'/2'/0'..15'` | the payment keys, the same for all channels of the seed |
//! | `m/9735'/3'` | secrets derived for a purpose |
//!
//! `<key id>` is one hardened step of BIP 32 whose index is the 32 bytes of the key id in place of 4.

use std::fmt;

use bitcoin::bip32::Xpriv;
use bitcoin::hashes::{Hash, HashEngine, Hmac, HmacEngine, sha256, sha512};
use bitcoin::{NetworkKind, Transaction};
use secp256k1::ecdh::SharedSecret;
use secp256k1::ecdsa::RecoverableSignature;
use secp256k1::{Keypair, Message, PublicKey, SECP256K1, Scalar, SecretKey};

use crate::bytes::KeyId;
use crate::claim::{Claim, SpendKey};
use crate::closing::{ClosingSighash, TicketSpec};
use crate::commitment::{CommitmentSignatures, CommitmentTransaction};
use crate::keys::{
    Basepoints, CommitmentKeys, CompactSignature, HtlcKeys, HtlcOutputs, InvalidPoint, Point,
    derive_private_key, derive_public_key, derive_revocation_private_key,
    derive_revocation_public_key_with_basepoint_secret, derive_revocation_public_key_with_commitment_secret,
};
use crate::parameters::{ChannelContext, Side};
use crate::shachain::{CommitmentSecret, commitment_secret};
use crate::signer::{DerivedSecret, Signer, SignerError, tagged_hash};

/// Payment keys of a seed: few enough to look for all of them on the chain, enough that channels of one wallet are not
/// all alike.
pub const PAYMENT_KEYS: usize = 16;

const PURPOSE: u32 = 9735;
const NODE: u32 = 0;
const CHANNELS: u32 = 1;
const PAYMENTS: u32 = 2;
const PURPOSES: u32 = 3;

/// Signs from secrets in memory.
#[derive(Clone)]
pub struct SeedSigner {
    master: Node,
    node: Keypair,
    channels: Node,
    payment_node: Node,
    payments: Vec<Point>,
    purposes: Node,
}

impl fmt::Debug for SeedSigner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SeedSigner").field("node_id", &self.node_id()).finish_non_exhaustive()
    }
}

/// One of a channel's secrets, named by its last step.
#[derive(Clone, Copy)]
enum ChannelKey {
    Funding = 0,
    Revocation = 1,
    DelayedPayment = 2,
    Htlc = 3,
    CommitmentSeed = 4,
}

/// A node of BIP 32's tree. Only hardened steps are taken, so no public key is ever computed on the way.
#[derive(Clone, Copy)]
struct Node {
    secret: SecretKey,
    chain_code: [u8; 32],
}

const NO_CANCELLATION: &str = "BIP 32: the child does not exist with probability 2^-127";

impl Node {
    fn step(&self, index: &[u8]) -> Self {
        let mut engine = HmacEngine::<sha512::Hash>::new(&self.chain_code);
        engine.input(&[0]);
        engine.input(self.secret.as_ref());
        engine.input(index);
        let output = Hmac::<sha512::Hash>::from_engine(engine).to_byte_array();
        let (tweak, chain_code) = output.split_at(32);
        let tweak =
            Scalar::from_be_bytes(tweak.try_into().expect("half of 64 bytes")).expect(NO_CANCELLATION);
        Self {
            secret: self.secret.add_tweak(&tweak).expect(NO_CANCELLATION),
            chain_code: chain_code.try_into().expect("half of 64 bytes"),
        }
    }

    fn hardened(&self, index: u32) -> Self {
        self.step(&(1 << 31 | index).to_be_bytes())
    }
}

/// Where one channel's secrets are derived from.
struct ChannelSecrets(Node);

impl ChannelSecrets {
    fn secret(&self, which: ChannelKey) -> SecretKey {
        self.0.hardened(which as u32).secret
    }

    fn commitment_secret(&self, number: u64) -> CommitmentSecret {
        commitment_secret(&self.secret(ChannelKey::CommitmentSeed).secret_bytes(), number)
    }

    fn commitment_scalar(&self, number: u64) -> SecretKey {
        self.commitment_secret(number).to_secret_key().expect("a hash is no scalar with probability 2^-128")
    }
}

impl SeedSigner {
    /// From the 64 bytes of a BIP 39 mnemonic and passphrase.
    pub fn new(seed: &[u8; 64]) -> Self {
        let master = Xpriv::new_master(NetworkKind::Main, seed).expect(NO_CANCELLATION);
        let master = Node { secret: master.private_key, chain_code: master.chain_code.to_bytes() };
        let purpose = master.hardened(PURPOSE);
        let payment_node = purpose.hardened(PAYMENTS);
        let payments = (0..).take(PAYMENT_KEYS).map(|index| point(&payment_node.hardened(index).secret));
        Self {
            master,
            node: Keypair::from_secret_key(SECP256K1, &purpose.hardened(NODE).secret),
            channels: purpose.hardened(CHANNELS),
            payments: payments.collect(),
            payment_node,
            purposes: purpose.hardened(PURPOSES),
        }
    }

    /// The master key of the same seed, for the on-chain wallet's descriptors (BIP 84 and 86). Not to be logged.
    pub fn onchain_master(&self, network: impl Into<NetworkKind>) -> Xpriv {
        Xpriv {
            network: network.into(),
            depth: 0,
            parent_fingerprint: Default::default(),
            child_number: 0.into(),
            private_key: self.master.secret,
            chain_code: self.master.chain_code.into(),
        }
    }

    /// A channel's node of the tree: a call that needs several of its secrets takes this step once.
    fn channel(&self, key: &KeyId) -> ChannelSecrets {
        ChannelSecrets(self.channels.step(key.as_bytes()))
    }

    /// The secret that a claim names; `None` when it cannot be ours.
    fn claim_secret(&self, key: &KeyId, which: &SpendKey) -> Option<SecretKey> {
        let channel = self.channel(key);
        let own = |which, number| {
            let per_commitment_point = channel.commitment_scalar(number).public_key(SECP256K1);
            derived(&channel.secret(which), &per_commitment_point)
        };
        match which {
            SpendKey::Delayed { number } => Some(own(ChannelKey::DelayedPayment, *number)),
            SpendKey::HolderHtlc { number } => Some(own(ChannelKey::Htlc, *number)),
            SpendKey::CounterpartyHtlc { per_commitment_point } => {
                let per_commitment_point = per_commitment_point.parse().ok()?;
                Some(derived(&channel.secret(ChannelKey::Htlc), &per_commitment_point))
            }
            // Any payment key of the seed: a scan of the chain finds outputs before their channel is known.
            SpendKey::Payment { key } => {
                let index =
                    (0..).zip(&self.payments).find_map(|(index, own)| (own == key).then_some(index))?;
                Some(self.payment_node.hardened(index).secret)
            }
            SpendKey::Revocation { secret } => {
                let secret = secret.to_secret_key()?;
                Some(derive_revocation_private_key(&channel.secret(ChannelKey::Revocation), &secret))
            }
        }
    }
}

/// A secret of ours for one commitment.
fn derived(basepoint_secret: &SecretKey, per_commitment_point: &PublicKey) -> SecretKey {
    derive_private_key(basepoint_secret, &basepoint_secret.public_key(SECP256K1), per_commitment_point)
}

/// The place of a channel's payment key among [`PAYMENT_KEYS`].
fn payment_index(key: &KeyId) -> usize {
    usize::from(key.as_bytes()[0]) % PAYMENT_KEYS
}

fn point(secret: &SecretKey) -> Point {
    secret.public_key(SECP256K1).into()
}

/// Deterministic (RFC 6979), low S, without grinding for a low R: that would sign twice on average.
fn sign(message: &Message, secret: &SecretKey) -> CompactSignature {
    SECP256K1.sign_ecdsa(message, secret).into()
}

fn expect_side(commitment: &CommitmentTransaction, expected: Side) -> Result<(), SignerError> {
    let found = commitment.broadcaster();
    if found == expected { Ok(()) } else { Err(SignerError::WrongSide { found, expected }) }
}

impl Signer for SeedSigner {
    fn node_id(&self) -> Point {
        self.node.public_key().into()
    }

    fn sign_tagged(&self, tag: &str, message: &[u8]) -> CompactSignature {
        sign(&tagged_hash(tag, message), &self.node.secret_key())
    }

    fn sign_invoice(&self, hash: &Message) -> RecoverableSignature {
        SECP256K1.sign_ecdsa_recoverable(hash, &self.node.secret_key())
    }

    fn shared_secret(&self, other: &Point) -> Result<DerivedSecret, InvalidPoint> {
        let shared = SharedSecret::new(&other.parse()?, &self.node.secret_key());
        Ok(DerivedSecret::from_bytes(shared.secret_bytes()))
    }

    fn derive_secret(&self, tag: &str, data: &[u8]) -> DerivedSecret {
        let mut engine = HmacEngine::<sha256::Hash>::new(self.purposes.secret.as_ref());
        engine.input(sha256::Hash::hash(tag.as_bytes()).as_ref());
        engine.input(data);
        DerivedSecret::from_bytes(Hmac::<sha256::Hash>::from_engine(engine).to_byte_array())
    }

    fn payment_keys(&self) -> &[Point] {
        &self.payments
    }

    fn channel_public_keys(&self, key: &KeyId) -> Basepoints {
        let channel = self.channel(key);
        let key_of = |which| point(&channel.secret(which));
        Basepoints {
            funding: key_of(ChannelKey::Funding),
            revocation: key_of(ChannelKey::Revocation),
            payment: self.payments[payment_index(key)],
            delayed_payment: key_of(ChannelKey::DelayedPayment),
            htlc: key_of(ChannelKey::Htlc),
        }
    }

    fn per_commitment_point(&self, key: &KeyId, number: u64) -> Point {
        point(&self.channel(key).commitment_scalar(number))
    }

    fn release_secret(&self, key: &KeyId, number: u64) -> CommitmentSecret {
        self.channel(key).commitment_secret(number)
    }

    fn holder_commitment_keys(
        &self,
        key: &KeyId,
        context: &ChannelContext,
        number: u64,
        htlc_outputs: HtlcOutputs,
    ) -> CommitmentKeys {
        let channel = self.channel(key);
        let secret = channel.commitment_scalar(number);
        let per_commitment_point = secret.public_key(SECP256K1);
        let (holder, counterparty) =
            (context.basepoints(Side::Holder), context.basepoints(Side::Counterparty));
        let own = |which: ChannelKey, basepoint: &PublicKey| {
            derive_private_key(&channel.secret(which), basepoint, &per_commitment_point).public_key(SECP256K1)
        };
        CommitmentKeys {
            per_commitment_point,
            revocation: derive_revocation_public_key_with_commitment_secret(
                &counterparty.revocation,
                &secret,
                &per_commitment_point,
            ),
            broadcaster_delayed: own(ChannelKey::DelayedPayment, &holder.delayed_payment),
            htlc: match htlc_outputs {
                HtlcOutputs::Absent => None,
                HtlcOutputs::Present => Some(HtlcKeys {
                    broadcaster: own(ChannelKey::Htlc, &holder.htlc),
                    countersignatory: derive_public_key(&counterparty.htlc, &per_commitment_point),
                }),
            },
        }
    }

    fn counterparty_commitment_keys(
        &self,
        key: &KeyId,
        context: &ChannelContext,
        per_commitment_point: &PublicKey,
        htlc_outputs: HtlcOutputs,
    ) -> CommitmentKeys {
        let channel = self.channel(key);
        let (holder, counterparty) =
            (context.basepoints(Side::Holder), context.basepoints(Side::Counterparty));
        CommitmentKeys {
            per_commitment_point: *per_commitment_point,
            revocation: derive_revocation_public_key_with_basepoint_secret(
                &channel.secret(ChannelKey::Revocation),
                &holder.revocation,
                per_commitment_point,
            ),
            broadcaster_delayed: derive_public_key(&counterparty.delayed_payment, per_commitment_point),
            htlc: match htlc_outputs {
                HtlcOutputs::Absent => None,
                HtlcOutputs::Present => Some(HtlcKeys {
                    broadcaster: derive_public_key(&counterparty.htlc, per_commitment_point),
                    countersignatory: derive_private_key(
                        &channel.secret(ChannelKey::Htlc),
                        &holder.htlc,
                        per_commitment_point,
                    )
                    .public_key(SECP256K1),
                }),
            },
        }
    }

    fn sign_counterparty_commitment(
        &self,
        key: &KeyId,
        context: &ChannelContext,
        commitment: &CommitmentTransaction,
    ) -> Result<CommitmentSignatures, SignerError> {
        expect_side(commitment, Side::Counterparty)?;
        let channel = self.channel(key);
        let funding = channel.secret(ChannelKey::Funding);
        let mut htlcs = Vec::with_capacity(commitment.htlcs().len());
        if !commitment.htlcs().is_empty() {
            let secret = derive_private_key(
                &channel.secret(ChannelKey::Htlc),
                &context.basepoints(Side::Holder).htlc,
                &commitment.keys().per_commitment_point,
            );
            let sighash_type = commitment.format().htlc_sighash_type();
            htlcs.extend(commitment.htlc_transactions().map(|tx| sign(&tx.sighash(sighash_type), &secret)));
        }
        Ok(CommitmentSignatures { commitment: sign(&commitment.sighash(context), &funding), htlcs })
    }

    fn sign_holder_commitment(
        &self,
        key: &KeyId,
        context: &ChannelContext,
        commitment: &CommitmentTransaction,
    ) -> Result<CompactSignature, SignerError> {
        expect_side(commitment, Side::Holder)?;
        Ok(sign(&commitment.sighash(context), &self.channel(key).secret(ChannelKey::Funding)))
    }

    fn sign_claim(
        &self,
        key: &KeyId,
        claim: &Claim,
        transaction: &Transaction,
        input_index: usize,
    ) -> Result<CompactSignature, SignerError> {
        let message = claim.sighash(transaction, input_index)?;
        let secret = self.claim_secret(key, &claim.key).ok_or(SignerError::ForeignKey)?;
        if point(&secret) != claim.public_key {
            return Err(SignerError::ForeignKey);
        }
        Ok(sign(&message, &secret))
    }

    fn sign_ticket(&self, key: &KeyId, ticket: &TicketSpec) -> Result<CompactSignature, SignerError> {
        ticket.check()?;
        let secret = self.channel(key).secret(ChannelKey::Funding);
        if point(&secret) != ticket.wallet_key {
            return Err(SignerError::ForeignKey);
        }
        Ok(sign(&ticket.sighash(), &secret))
    }

    fn sign_closing_input(&self, key: &KeyId, sighash: &ClosingSighash) -> CompactSignature {
        sign(sighash.message(), &self.channel(key).secret(ChannelKey::Funding))
    }
}
