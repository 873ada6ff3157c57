//! The one door to secrets. Whoever holds keys, in memory or in a box of its own, implements [`Signer`]; nothing else in
//! the workspace touches a secret key.
//!
//! Methods say what is signed, not which bytes: a signer can refuse what must not be signed.

use bitcoin::Transaction;
use bitcoin::hashes::{Hash, HashEngine, sha256};
use secp256k1::ecdsa::RecoverableSignature;
use secp256k1::{Message, PublicKey};

use crate::bytes::{KeyId, named_bytes};
use crate::claim::{Claim, ClaimError};
use crate::closing::{ClosingSighash, TicketFlaw, TicketSpec};
use crate::commitment::{CommitmentSignatures, CommitmentTransaction};
use crate::keys::{
    Basepoints, CommitmentKeys, CompactSignature, HtlcOutputs, InvalidPoint, InvalidSignature, Point,
};
use crate::parameters::{ChannelContext, Side};
use crate::shachain::CommitmentSecret;

named_bytes!(
    /// 32 secret bytes that come from keys: a shared secret, or one derived for a purpose.
    DerivedSecret,
    32,
    secret
);

/// Why a signer refused. Nothing was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignerError {
    #[error("the channel's keys are not those of the key id")]
    ForeignKey,
    #[error("the commitment belongs to {found:?}, not to {expected:?}")]
    WrongSide { found: Side, expected: Side },
    #[error(transparent)]
    Claim(#[from] ClaimError),
    #[error(transparent)]
    Ticket(#[from] TicketFlaw),
}

/// Holds one party's secrets. Channels are addressed by their [`KeyId`].
///
/// Everything is deterministic: the same request gets the same answer after any restart, so no answer need be stored.
pub trait Signer: Send + Sync {
    /// The node's identity.
    fn node_id(&self) -> Point;

    /// Signs a message with the node's key, as [`verify_tagged`] checks it. Each purpose has a tag of its own, so that no
    /// signature serves a second one.
    fn sign_tagged(&self, tag: &str, message: &[u8]) -> CompactSignature;

    /// Signs the hash of an invoice with the node's key (BOLT 11).
    fn sign_invoice(&self, hash: &Message) -> RecoverableSignature;

    /// Diffie-Hellman of the node's key and another: SHA256 of the compressed product.
    fn shared_secret(&self, other: &Point) -> Result<DerivedSecret, InvalidPoint>;

    /// A secret of this seed alone for a purpose: sealing, preimages. Another tag or other data give another one.
    fn derive_secret(&self, tag: &str, data: &[u8]) -> DerivedSecret;

    /// All keys a channel's `to_remote` output may pay: a scan of the chain for these finds every one.
    fn payment_keys(&self) -> &[Point];

    /// The public keys of a channel.
    fn channel_public_keys(&self, key: &KeyId) -> Basepoints;

    /// The point of a commitment of ours.
    fn per_commitment_point(&self, key: &KeyId, number: u64) -> Point;

    /// The secret of a commitment of ours. **Revokes it**: the state machine asks only after the next one is durable and
    /// verified.
    fn release_secret(&self, key: &KeyId, number: u64) -> CommitmentSecret;

    /// The keys of a commitment of ours.
    fn holder_commitment_keys(
        &self,
        key: &KeyId,
        context: &ChannelContext,
        number: u64,
        htlc_outputs: HtlcOutputs,
    ) -> CommitmentKeys;

    /// The keys of a commitment of the counterparty's.
    fn counterparty_commitment_keys(
        &self,
        key: &KeyId,
        context: &ChannelContext,
        per_commitment_point: &PublicKey,
        htlc_outputs: HtlcOutputs,
    ) -> CommitmentKeys;

    /// Signs a commitment of the counterparty's and its HTLC transactions.
    fn sign_counterparty_commitment(
        &self,
        key: &KeyId,
        context: &ChannelContext,
        commitment: &CommitmentTransaction,
    ) -> Result<CommitmentSignatures, SignerError>;

    /// Signs our own commitment, to publish it.
    fn sign_holder_commitment(
        &self,
        key: &KeyId,
        context: &ChannelContext,
        commitment: &CommitmentTransaction,
    ) -> Result<CompactSignature, SignerError>;

    /// Signs the input that takes a claim's output, with `SIGHASH_ALL` of the whole transaction, by the secret that
    /// [`Claim::key`] names; refuses if the input spends another output, or if the secret is not that of
    /// [`Claim::public_key`].
    fn sign_claim(
        &self,
        key: &KeyId,
        claim: &Claim,
        transaction: &Transaction,
        input_index: usize,
    ) -> Result<CompactSignature, SignerError>;

    /// Signs a wallet's closing ticket, after all checks of [`TicketSpec::check`].
    fn sign_ticket(&self, key: &KeyId, ticket: &TicketSpec) -> Result<CompactSignature, SignerError>;

    /// Signs a funding input of a finished closing transaction or batch.
    fn sign_closing_input(&self, key: &KeyId, sighash: &ClosingSighash) -> CompactSignature;
}

/// BIP 340's tagged hash: `SHA256(SHA256(tag) || SHA256(tag) || message)`.
pub fn tagged_hash(tag: &str, message: &[u8]) -> Message {
    let tag = sha256::Hash::hash(tag.as_bytes());
    let mut engine = sha256::Hash::engine();
    engine.input(tag.as_ref());
    engine.input(tag.as_ref());
    engine.input(message);
    Message::from_digest(sha256::Hash::from_engine(engine).to_byte_array())
}

/// Why a node's signature does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaggedError {
    #[error(transparent)]
    Node(#[from] InvalidPoint),
    #[error(transparent)]
    Signature(#[from] InvalidSignature),
}

/// Verifies a signature made by [`Signer::sign_tagged`].
pub fn verify_tagged(
    node_id: &Point,
    tag: &str,
    message: &[u8],
    signature: &CompactSignature,
) -> Result<(), TaggedError> {
    let key = node_id.parse()?;
    signature.verify(&tagged_hash(tag, message), &key)?;
    Ok(())
}
