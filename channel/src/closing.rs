//! Cooperative closing: tickets that merge into one batch, and the ordinary closing transaction of BOLT 2 and 3.
//!
//! A ticket is the wallet's signature of its funding input, with `SINGLE|ANYONECANPAY` over its own output. It fixes the
//! wallet's amount, script, sequence, version and lock time and nothing else, so that the hub merges any number of them
//! without asking anybody. **The hash that is signed is built from the wallet's own output alone, never from a
//! transaction that the wallet was handed**: with an index beyond the outputs `SINGLE` would sign no output at all, and
//! the whole channel could be taken.

use bitcoin::absolute::LockTime;
use bitcoin::sighash::SighashCache;
use bitcoin::transaction::Version;
use bitcoin::{Amount, EcdsaSighashType, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use secp256k1::Message;
use serde::{Deserialize, Serialize};

use crate::amount::Msat;
use crate::keys::{CompactSignature, InvalidPoint, InvalidSignature, Point};
use crate::limits::{MAX_DUST_LIMIT, MAX_PAYOUT_SCRIPT_LENGTH, MIN_DUST_LIMIT};
use crate::parameters::{ChannelContext, Side};
use crate::scripts;
use crate::witness::{self, OwnedSignature};

/// The sequence of every input of a batch: the hub can replace it at a higher fee (BIP 125).
pub const BATCH_SEQUENCE: Sequence = Sequence(0xffff_fffd);
/// The version of a batch, which every ticket signs.
pub const BATCH_VERSION: Version = Version::TWO;
/// The lock time of a batch, which every ticket signs.
pub const BATCH_LOCK_TIME: LockTime = LockTime::ZERO;

/// What the hub proposes once both sides have shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosingTerms {
    /// The wallet's share of the batch's fee.
    #[serde(with = "bitcoin::amount::serde::as_sat")]
    pub fee: Amount,
    /// The block height by which the close is in the chain; else the wallet publishes the batch, or closes alone.
    pub publish_by_height: u32,
}

/// All that a ticket depends on; the same at both ends, and independent of the ticket's place in a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketSpec {
    pub funding_outpoint: OutPoint,
    #[serde(with = "bitcoin::amount::serde::as_sat")]
    pub funding_amount: Amount,
    /// The wallet's funding key: it signs the ticket.
    pub wallet_key: Point,
    /// The hub's funding key: it signs the batch.
    pub hub_key: Point,
    /// What the wallet owns in the frozen channel; it has no HTLC left.
    pub wallet_balance: Msat,
    /// The wallet's agreed share of the fee.
    #[serde(with = "bitcoin::amount::serde::as_sat")]
    pub fee: Amount,
    #[serde(with = "bitcoin::amount::serde::as_sat")]
    pub dust_limit: Amount,
    /// Where the wallet is paid.
    pub wallet_script: ScriptBuf,
}

/// Why a ticket must not be signed or accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketFlaw {
    #[error("the balance of {balance} exceeds the funding of {funding}")]
    BalanceExceedsFunding { balance: Msat, funding: Amount },
    #[error("the dust limit of {dust_limit} is not between {MIN_DUST_LIMIT} and {MAX_DUST_LIMIT}")]
    DustLimitOutOfRange { dust_limit: Amount },
    #[error("the payout's script is no standard witness program")]
    NonStandardScript,
    #[error("{0}")]
    Key(#[from] InvalidPoint),
    #[error("the ticket's signature is invalid")]
    Signature,
}

impl TicketSpec {
    /// Where and how much the wallet is paid: its balance in whole satoshi less the fee, but never brought below the dust
    /// limit by the fee. `None` exactly when the balance itself is below: then the wallet has nothing that an output
    /// could hold.
    pub fn payout(&self) -> Option<TxOut> {
        let balance = self.wallet_balance.to_sat_floor();
        if balance < self.dust_limit {
            return None;
        }
        let value = balance.checked_sub(self.fee).unwrap_or(Amount::ZERO).max(self.dust_limit);
        Some(TxOut { value, script_pubkey: self.wallet_script.clone() })
    }

    /// What the wallet's signature covers: with a payout its own output and input, without one its input alone.
    pub fn sighash_type(&self) -> EcdsaSighashType {
        if self.wallet_balance.to_sat_floor() < self.dust_limit {
            EcdsaSighashType::NonePlusAnyoneCanPay
        } else {
            EcdsaSighashType::SinglePlusAnyoneCanPay
        }
    }

    /// The rules a ticket keeps whoever looks at it: the signer before it signs, the hub before it accepts.
    pub fn check(&self) -> Result<(), TicketFlaw> {
        if Msat::from_sat(self.funding_amount).is_none_or(|funding| self.wallet_balance > funding) {
            return Err(TicketFlaw::BalanceExceedsFunding {
                balance: self.wallet_balance,
                funding: self.funding_amount,
            });
        }
        if !(MIN_DUST_LIMIT..=MAX_DUST_LIMIT).contains(&self.dust_limit) {
            return Err(TicketFlaw::DustLimitOutOfRange { dust_limit: self.dust_limit });
        }
        let fits = self.wallet_script.len() <= MAX_PAYOUT_SCRIPT_LENGTH;
        if !fits || !scripts::is_standard_payout(&self.wallet_script) {
            return Err(TicketFlaw::NonStandardScript);
        }
        Ok(())
    }

    /// What the wallet signs. It is made from the wallet's own output, so it holds at any index of any batch.
    pub fn sighash(&self) -> Message {
        let alone = Transaction {
            version: BATCH_VERSION,
            lock_time: BATCH_LOCK_TIME,
            input: vec![self.input()],
            output: self.payout().into_iter().collect(),
        };
        let sighash = SighashCache::new(&alone)
            .p2wsh_signature_hash(0, &self.witness_script(), self.funding_amount, self.sighash_type())
            .expect("the transaction has one input, and one output where SINGLE is signed");
        Message::from(sighash)
    }

    /// Checks the ticket's rules and the wallet's signature.
    pub fn verify(&self, signature: &CompactSignature) -> Result<(), TicketFlaw> {
        self.check()?;
        let key = self.wallet_key.parse()?;
        signature.verify(&self.sighash(), &key).map_err(|InvalidSignature| TicketFlaw::Signature)?;
        Ok(())
    }

    /// The funding output's witness script.
    pub fn witness_script(&self) -> ScriptBuf {
        scripts::funding_of_points(&self.wallet_key, &self.hub_key)
    }

    /// The funding output that the ticket spends.
    pub fn spent_output(&self) -> TxOut {
        TxOut { value: self.funding_amount, script_pubkey: scripts::p2wsh(&self.witness_script()) }
    }

    /// The ticket's input of a batch, without its witness.
    pub fn input(&self) -> TxIn {
        TxIn {
            previous_output: self.funding_outpoint,
            script_sig: ScriptBuf::new(),
            sequence: BATCH_SEQUENCE,
            witness: Witness::new(),
        }
    }

    /// The input's witness, from the wallet's ticket and the hub's signature of the whole batch.
    pub fn witness(
        &self,
        ticket: &CompactSignature,
        hub_signature: &CompactSignature,
    ) -> Result<Witness, InvalidSignature> {
        Ok(witness::funding(
            &self.witness_script(),
            OwnedSignature::new(self.wallet_key, ticket, self.sighash_type())?,
            OwnedSignature::new(self.hub_key, hub_signature, EcdsaSighashType::All)?,
        ))
    }
}

/// Why a ticket does not hold at an index of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementFlaw {
    #[error("a batch has version 2")]
    Version,
    #[error("a batch has lock time 0")]
    LockTime,
    #[error("input {index} is not the ticket's")]
    Input { index: usize },
    #[error("output {index} is not the ticket's payout")]
    Output { index: usize },
}

/// What one party signs of a finished closing transaction: made by this module only, so that a signer signs nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosingSighash(Message);

impl ClosingSighash {
    /// The hash as the curve library takes it.
    pub const fn message(&self) -> &Message {
        &self.0
    }
}

/// Hashes the inputs of one batch; what they share is computed once.
#[derive(Debug)]
pub struct BatchSighashes<'a> {
    cache: SighashCache<&'a Transaction>,
}

impl<'a> BatchSighashes<'a> {
    /// Of a batch that is complete but for witnesses.
    pub fn new(batch: &'a Transaction) -> Self {
        Self { cache: SighashCache::new(batch) }
    }

    /// What the hub signs for the ticket at an index: everything. Refused where the wallet's signature would not hold.
    pub fn sighash(&mut self, index: usize, ticket: &TicketSpec) -> Result<ClosingSighash, PlacementFlaw> {
        check_placement(self.cache.transaction(), index, ticket)?;
        let sighash = self
            .cache
            .p2wsh_signature_hash(
                index,
                &ticket.witness_script(),
                ticket.funding_amount,
                EcdsaSighashType::All,
            )
            .map_err(|_| PlacementFlaw::Input { index })?;
        Ok(ClosingSighash(Message::from(sighash)))
    }
}

/// Checks that a ticket's signature holds at an index of a batch.
pub fn check_placement(batch: &Transaction, index: usize, ticket: &TicketSpec) -> Result<(), PlacementFlaw> {
    if batch.version != BATCH_VERSION {
        return Err(PlacementFlaw::Version);
    }
    if batch.lock_time != BATCH_LOCK_TIME {
        return Err(PlacementFlaw::LockTime);
    }
    let input = batch.input.get(index).ok_or(PlacementFlaw::Input { index })?;
    if input.previous_output != ticket.funding_outpoint || input.sequence != BATCH_SEQUENCE {
        return Err(PlacementFlaw::Input { index });
    }
    match ticket.payout() {
        Some(payout) if batch.output.get(index) != Some(&payout) => Err(PlacementFlaw::Output { index }),
        Some(_) | None => Ok(()),
    }
}

/// One party's part of an ordinary cooperative close.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosingOutput {
    pub balance: Msat,
    pub script: ScriptBuf,
}

/// Both parties' parts of an ordinary cooperative close.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosingOutputs {
    pub holder: ClosingOutput,
    pub counterparty: ClosingOutput,
}

/// The ordinary closing transaction (BOLT 3, "Legacy Closing Transaction"): both balances, the opener's less the fee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosingTransaction {
    tx: Transaction,
}

impl ClosingTransaction {
    /// Builds it; `None` when the opener cannot pay the fee. Outputs below the dust limit are left out.
    pub fn build(context: &ChannelContext, parts: &ClosingOutputs, fee: Amount) -> Option<Self> {
        let parameters = context.parameters();
        let mut output = Vec::with_capacity(2);
        for (side, part) in [(Side::Holder, &parts.holder), (Side::Counterparty, &parts.counterparty)] {
            let balance = part.balance.to_sat_floor();
            let value = if side == parameters.opener { balance.checked_sub(fee)? } else { balance };
            if value >= parameters.dust_limit {
                output.push(TxOut { value, script_pubkey: part.script.clone() });
            }
        }
        output.sort_by(|one, other| {
            (one.value, one.script_pubkey.as_bytes()).cmp(&(other.value, other.script_pubkey.as_bytes()))
        });
        let input = TxIn {
            previous_output: parameters.funding_outpoint,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        };
        let tx = Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input: vec![input], output };
        Some(Self { tx })
    }

    /// The transaction without its witness.
    pub const fn transaction(&self) -> &Transaction {
        &self.tx
    }

    /// What both parties sign.
    pub fn sighash(&self, context: &ChannelContext) -> ClosingSighash {
        let amount = context.parameters().funding_amount;
        let sighash = SighashCache::new(&self.tx)
            .p2wsh_signature_hash(0, context.funding_script(), amount, EcdsaSighashType::All)
            .expect("a closing transaction has one input");
        ClosingSighash(Message::from(sighash))
    }

    /// The transaction ready to publish.
    pub fn signed(
        &self,
        context: &ChannelContext,
        holder: &CompactSignature,
        counterparty: &CompactSignature,
    ) -> Result<Transaction, InvalidSignature> {
        let funding = |side| context.parameters().party(side).basepoints.funding;
        let mut tx = self.tx.clone();
        tx.input[0].witness = witness::funding(
            context.funding_script(),
            OwnedSignature::new(funding(Side::Holder), holder, EcdsaSighashType::All)?,
            OwnedSignature::new(funding(Side::Counterparty), counterparty, EcdsaSighashType::All)?,
        );
        Ok(tx)
    }
}
