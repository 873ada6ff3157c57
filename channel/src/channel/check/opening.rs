//! Openings (BOLT 2, "Channel Establishment"): who may open what, and that what was agreed is what is signed
//! and funded.

use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut};

use super::rounds::check_sealed;
use super::{Verdict, decided, refused};
use crate::amount::Msat;
use crate::channel::input::{First, Input, Kind};
use crate::channel::price::Price;
use crate::channel::state::{Names, Phase, Terms};
use crate::channel::{Channel, Checked, Context};
use crate::commitment::{CommitmentSignatures, CommitmentSpec};
use crate::effect::Effect;
use crate::error::{ParameterFlaw, Refusal, Rejection, Violation};
use crate::event::{AcceptRequest, OpenRequest};
use crate::format::CommitmentFormat;
use crate::funding::{FundingFlaw, check_funding_output};
use crate::keys::CompactSignature;
use crate::limits::{
    MAX_DUST_HTLCS, MAX_DUST_LIMIT, MAX_HTLCS_WITH_OUTPUT, MAX_MINIMUM_DEPTH, MAX_PAYOUT_SCRIPT_LENGTH,
    MAX_TO_SELF_DELAY_BLOCKS, MIN_DUST_LIMIT, MIN_TO_SELF_DELAY_BLOCKS,
};
use crate::message::{AcceptChannel, FundingCreated, FundingSigned, OpenChannel, SideParameters};
use crate::parameters::{ChannelContext, Side};
use crate::policy::Policy;
use crate::scripts::is_standard_payout;

/// The one format whose commitments never need an `update_fee`: the state machine knows no other yet.
pub(super) const FORMAT: CommitmentFormat = CommitmentFormat::ZeroFeeCommitments;

/// [`MAX_HTLCS_WITH_OUTPUT`], as messages carry it.
const MAX_ACCEPTED_HTLCS: u16 = MAX_HTLCS_WITH_OUTPUT as u16;

impl Channel {
    /// Checks a request to open a channel that this side funds. The input is its first.
    pub fn check_open(request: OpenRequest, context: &Context<'_>) -> Result<Input, Rejection> {
        let OpenRequest {
            owner,
            channel_id,
            role,
            counterparty_node,
            key_id,
            capacity_sat,
            reserve_sat,
            price_msat,
            reserve_price_msat,
            session,
        } = request;
        let names = Names { owner, channel_id, role, counterparty_node, key_id };
        let policy = context.policy;
        check_capacity(capacity_sat, policy)?;
        let terms = own_terms(&names, capacity_sat, policy.dust_limit_sat, context);
        let minimum_depth = policy.minimum_depth;
        let terms = Terms { opener: Side::Holder, minimum_depth, reserve_sat, ..terms };
        check_own(&terms)?;
        check_price(price_msat.saturating_add(reserve_price_msat), capacity(&terms))?;
        let first = Box::new(First { names, terms, session });
        Ok(Input(match Price::agreed(price_msat, reserve_price_msat) {
            Some(price) => Kind::Priced { first, price },
            None => Kind::Opened(first),
        }))
    }

    /// Checks the counterparty's proposal of a channel. The input is its first.
    pub fn check_accept(
        request: AcceptRequest,
        message: &OpenChannel,
        context: &Context<'_>,
    ) -> Result<Input, Rejection> {
        let AcceptRequest {
            owner,
            channel_id,
            role,
            counterparty_node,
            key_id,
            reserve_script,
            max_price_msat,
            session,
        } = request;
        let names = Names { owner, channel_id, role, counterparty_node, key_id };
        let policy = context.policy;
        let OpenChannel {
            format,
            capacity_sat,
            dust_limit_sat,
            minimum_depth,
            opener,
            price_msat,
            reserve_sat,
            reserve_price_msat,
        } = message;
        if CommitmentFormat::from_negotiated_name(format) != Some(FORMAT) {
            return Err(Refusal::from(ParameterFlaw::UnsupportedFormat { name: format.clone() }).into());
        }
        check_capacity(*capacity_sat, policy)?;
        check_depth(*minimum_depth, 1).map_err(Refusal::Parameters)?;
        check_dust_limit(*dust_limit_sat, *capacity_sat).map_err(Refusal::Parameters)?;
        let terms = own_terms(&names, *capacity_sat, *dust_limit_sat, context);
        let terms = Terms {
            opener: Side::Counterparty,
            minimum_depth: policy.minimum_depth.max(*minimum_depth),
            counterparty: Some(opener.clone()),
            reserve_sat: *reserve_sat,
            reserve_script,
            ..terms
        };
        check_own(&terms)?;
        check_side(opener, &terms, policy.max_to_self_delay_blocks).map_err(Refusal::Parameters)?;
        let coin_msat = if takes_coin(&terms) { *reserve_price_msat } else { Msat::ZERO };
        let price_msat = price_msat.saturating_add(coin_msat);
        check_price(price_msat, max_price_msat.min(capacity(&terms)))?;
        let first = Box::new(First { names, terms, session });
        Ok(Input(match Price::agreed(price_msat, Msat::ZERO) {
            Some(price) => Kind::Priced { first, price },
            None => Kind::Accepted(first),
        }))
    }

    /// Opener: the answer to our proposal. It had our wishes, so what does not fit them is a violation.
    pub(super) fn check_accepted(&self, accept: &AcceptChannel, context: &Context<'_>) -> Verdict {
        if self.state.phase != Phase::Proposed {
            return refused(Refusal::UnexpectedMessage);
        }
        let AcceptChannel { minimum_depth, accepter, reserve_script } = accept;
        check_depth(*minimum_depth, self.state.terms.minimum_depth)
            .and_then(|()| check_side(accepter, &self.state.terms, context.policy.max_to_self_delay_blocks))
            .map_err(Violation::Parameters)?;
        let reserve_coin = self.reserve_coin(reserve_script).map_err(Violation::Parameters)?;
        decided(Kind::AcceptReceived {
            minimum_depth: *minimum_depth,
            counterparty: Box::new(accepter.clone()),
            reserve_coin,
        })
    }

    /// The coin for an accepter that asks for one, if one is offered.
    fn reserve_coin(&self, script: &ScriptBuf) -> Result<Option<TxOut>, ParameterFlaw> {
        if script.is_empty() {
            return Ok(None);
        }
        if script.len() > MAX_PAYOUT_SCRIPT_LENGTH || !is_standard_payout(script) {
            return Err(ParameterFlaw::NonStandardReserveScript);
        }
        let value = Amount::from_sat(self.state.terms.reserve_sat);
        Ok((value > Amount::ZERO).then(|| TxOut { value, script_pubkey: script.clone() }))
    }

    /// Opener: the on-chain wallet built the funding transaction.
    pub(super) fn check_funding_built(&self, transaction: Transaction, output_index: u32) -> Verdict {
        match self.state.phase {
            Phase::Building => {}
            // It came too late: its coins are free again.
            Phase::Aborted { .. } => {
                let transaction = Some(transaction);
                return Ok(Checked::Repeat(Effect::ReleaseCoins { transaction }));
            }
            Phase::Proposed
            | Phase::FundingSent
            | Phase::Accepted
            | Phase::AwaitingConfirmation
            | Phase::Open
            | Phase::Frozen
            | Phase::Closing { .. }
            | Phase::Closed { .. }
            | Phase::Failed { .. } => return refused(Refusal::FundingNotAskedFor),
        }
        // A changed id would make commitment 0 worthless.
        let malleable = |input: &bitcoin::TxIn| !input.script_sig.is_empty() || input.witness.is_empty();
        if let Some(index) = transaction.input.iter().position(malleable) {
            return refused(Refusal::MalleableFunding { index });
        }
        let outpoint = OutPoint { txid: transaction.compute_txid(), vout: output_index };
        crate::funding::check_funding(&transaction, outpoint, &self.expected_funding())
            .map_err(Refusal::WrongFunding)?;
        self.check_reserve_coin(Some(&transaction)).map_err(Refusal::WrongFunding)?;
        decided(Kind::FundingBuilt { transaction: Box::new(transaction), outpoint })
    }

    /// Whether the funding transaction pays the coin that the accepter asked for and was offered.
    fn check_reserve_coin(&self, transaction: Option<&Transaction>) -> Result<(), FundingFlaw> {
        let Some(coin) = self.agreed_coin() else { return Ok(()) };
        if transaction.is_some_and(|transaction| transaction.output.contains(&coin)) {
            return Ok(());
        }
        Err(FundingFlaw::NoReserveCoin { expected: coin.value })
    }

    /// The coin that the funding transaction pays to the accepter, once both know of it.
    pub(in super::super) fn agreed_coin(&self) -> Option<TxOut> {
        let terms = &self.state.terms;
        takes_coin(terms).then(|| TxOut {
            value: Amount::from_sat(terms.reserve_sat),
            script_pubkey: terms.reserve_script.clone(),
        })
    }

    fn expected_funding(&self) -> TxOut {
        TxOut { value: self.state.funding_amount(), script_pubkey: self.state.funding_script() }
    }

    /// Whether the chain holds what was agreed on.
    pub(super) fn is_our_funding(&self, output: Option<&TxOut>) -> bool {
        output.is_some_and(|output| check_funding_output(output, &self.expected_funding()).is_ok())
    }

    /// Accepter: the funding's outpoint, and the signature that lets us leave alone.
    pub(super) fn check_funding_created(&self, created: FundingCreated, context: &Context<'_>) -> Verdict {
        if self.state.phase != Phase::Accepted {
            return refused(Refusal::UnexpectedMessage);
        }
        let FundingCreated { outpoint, signature, transaction, sealed } = created;
        check_sealed(&sealed)?;
        if let Some(transaction) = &transaction {
            crate::funding::check_funding(transaction, outpoint, &self.expected_funding())
                .map_err(Refusal::WrongFunding)?;
        }
        self.check_reserve_coin(transaction.as_ref()).map_err(Refusal::WrongFunding)?;
        let parameters = ChannelContext::new(self.parameters(outpoint))
            .map_err(|error| Violation::Parameters(ParameterFlaw::InvalidPoint(error.0)))?;
        self.verify_commitment_0(&parameters, &signature, context)?;
        decided(Kind::FundingCreated { outpoint, signature, sealed })
    }

    /// Opener: the signature without which nothing is broadcast.
    pub(super) fn check_funding_signed(&self, signed: FundingSigned, context: &Context<'_>) -> Verdict {
        if self.state.phase != Phase::FundingSent {
            return refused(Refusal::UnexpectedMessage);
        }
        let FundingSigned { signature, sealed } = signed;
        check_sealed(&sealed)?;
        self.verify_commitment_0(self.context(), &signature, context)?;
        decided(Kind::FundingSigned { signature, sealed })
    }

    fn verify_commitment_0(
        &self,
        parameters: &ChannelContext,
        signature: &CompactSignature,
        context: &Context<'_>,
    ) -> Result<(), Violation> {
        let balances = self.state.books.holder.latest;
        let spec = CommitmentSpec {
            number: 0,
            to_broadcaster: balances.holder,
            to_countersignatory: balances.counterparty,
            htlcs: Vec::new(),
            feerate_sat_per_kw: 0,
        };
        let signatures = CommitmentSignatures { commitment: *signature, htlcs: Vec::new() };
        self.verify_holder_commitment(parameters, &spec, &signatures, context.signer)
    }

    pub(super) fn check_channel_ready(&self) -> Verdict {
        match (&self.state.phase, &self.state.funding) {
            (Phase::AwaitingConfirmation, Some(funding)) if !funding.counterparty_ready => {
                decided(Kind::ReadyReceived)
            }
            // Sent again after a reestablish.
            (Phase::AwaitingConfirmation | Phase::Open | Phase::Frozen | Phase::Closing { .. }, _) => {
                Ok(Checked::Nothing)
            }
            (
                Phase::Proposed
                | Phase::Building
                | Phase::FundingSent
                | Phase::Accepted
                | Phase::Closed { .. }
                | Phase::Aborted { .. }
                | Phase::Failed { .. },
                _,
            ) => refused(Refusal::UnexpectedMessage),
        }
    }
}

/// Our side of a channel, from policy and keys.
pub(super) fn own_terms(
    names: &Names,
    capacity_sat: u64,
    dust_limit_sat: u64,
    context: &Context<'_>,
) -> Terms {
    let Context { policy, signer, .. } = context;
    let in_flight_sat = capacity_sat / 100 * u64::from(policy.max_in_flight_percent.min(100));
    Terms {
        format: FORMAT,
        opener: Side::Holder,
        capacity_sat,
        dust_limit_sat,
        minimum_depth: policy.minimum_depth,
        holder: SideParameters {
            basepoints: signer.channel_public_keys(&names.key_id),
            first_point: signer.per_commitment_point(&names.key_id, 0),
            second_point: signer.per_commitment_point(&names.key_id, 1),
            to_self_delay_blocks: policy.to_self_delay_blocks,
            htlc_minimum_msat: policy.htlc_minimum_msat,
            max_htlc_value_in_flight_msat: Msat::from_sat(Amount::from_sat(in_flight_sat))
                .unwrap_or(Msat::MAX),
            max_accepted_htlcs: policy.max_accepted_htlcs,
            max_accepted_dust_htlcs: policy.max_accepted_dust_htlcs,
        },
        counterparty: None,
        reserve_sat: 0,
        reserve_script: ScriptBuf::new(),
    }
}

fn check_capacity(capacity_sat: u64, policy: &Policy) -> Result<(), Refusal> {
    if capacity_sat < policy.min_capacity_sat {
        let minimum_sat = policy.min_capacity_sat;
        return Err(ParameterFlaw::CapacityTooSmall { capacity_sat, minimum_sat }.into());
    }
    let maximum_sat = policy.max_capacity_sat.min(Amount::MAX_MONEY.to_sat());
    if capacity_sat > maximum_sat {
        return Err(ParameterFlaw::CapacityTooLarge { capacity_sat, maximum_sat }.into());
    }
    Ok(())
}

/// Whether a channel costs no more than may be asked for it.
fn check_price(price: Msat, maximum: Msat) -> Result<(), Refusal> {
    if price <= maximum { Ok(()) } else { Err(ParameterFlaw::PriceTooHigh { price, maximum }.into()) }
}

fn capacity(terms: &Terms) -> Msat {
    Msat::from_sat(Amount::from_sat(terms.capacity_sat)).unwrap_or(Msat::MAX)
}

/// Whether the accepter asks for a coin, and is offered one.
fn takes_coin(terms: &Terms) -> bool {
    terms.reserve_sat > 0 && !terms.reserve_script.is_empty()
}

fn check_depth(minimum_depth: u32, minimum: u32) -> Result<(), ParameterFlaw> {
    if (minimum..=MAX_MINIMUM_DEPTH).contains(&minimum_depth) {
        return Ok(());
    }
    Err(ParameterFlaw::DepthOutOfRange { minimum_depth, minimum, maximum: MAX_MINIMUM_DEPTH })
}

/// An output below the lower bound would not be relayed; above the upper one a cheap close would cost too much.
fn check_dust_limit(dust_limit_sat: u64, capacity_sat: u64) -> Result<(), ParameterFlaw> {
    let minimum_sat = MIN_DUST_LIMIT.to_sat();
    if dust_limit_sat < minimum_sat {
        return Err(ParameterFlaw::DustLimitTooLow { dust_limit_sat, minimum_sat });
    }
    let maximum_sat = (capacity_sat / 100).clamp(minimum_sat, MAX_DUST_LIMIT.to_sat());
    if dust_limit_sat > maximum_sat {
        return Err(ParameterFlaw::DustLimitTooHigh { dust_limit_sat, maximum_sat });
    }
    Ok(())
}

/// Our own policy must keep the rules that we hold the counterparty to.
fn check_own(terms: &Terms) -> Result<(), Refusal> {
    check_depth(terms.minimum_depth, 1)
        .and_then(|()| check_dust_limit(terms.dust_limit_sat, terms.capacity_sat))
        .and_then(|()| check_numbers(&terms.holder, terms, MAX_TO_SELF_DELAY_BLOCKS))
        .map_err(Refusal::PolicyUnusable)
}

/// What the counterparty fixes for us to obey.
pub(super) fn check_side(
    side: &SideParameters,
    terms: &Terms,
    maximum_delay: u16,
) -> Result<(), ParameterFlaw> {
    check_numbers(side, terms, maximum_delay.min(MAX_TO_SELF_DELAY_BLOCKS))?;
    side.basepoints.parse().map_err(|error| ParameterFlaw::InvalidPoint(error.0))?;
    for point in [&side.first_point, &side.second_point] {
        point.parse().map_err(|error| ParameterFlaw::InvalidPoint(error.0))?;
    }
    if side.basepoints.funding == terms.holder.basepoints.funding {
        return Err(ParameterFlaw::SameFundingKey);
    }
    Ok(())
}

fn check_numbers(side: &SideParameters, terms: &Terms, maximum_delay: u16) -> Result<(), ParameterFlaw> {
    let delay_blocks = side.to_self_delay_blocks;
    if !(MIN_TO_SELF_DELAY_BLOCKS..=maximum_delay).contains(&delay_blocks) {
        let (minimum, maximum) = (MIN_TO_SELF_DELAY_BLOCKS, maximum_delay);
        return Err(ParameterFlaw::DelayOutOfRange { delay_blocks, minimum, maximum });
    }
    if side.htlc_minimum_msat.to_sat_floor().to_sat() > terms.capacity_sat / 100 {
        return Err(ParameterFlaw::HtlcMinimumTooHigh { minimum: side.htlc_minimum_msat });
    }
    let maximum = side.max_htlc_value_in_flight_msat;
    if maximum < side.htlc_minimum_msat || maximum.is_zero() {
        return Err(ParameterFlaw::InFlightLimitUnusable { maximum });
    }
    let count = side.max_accepted_htlcs;
    if !(1..=MAX_ACCEPTED_HTLCS).contains(&count) {
        return Err(ParameterFlaw::HtlcCountOutOfRange { count, maximum: MAX_ACCEPTED_HTLCS });
    }
    let count = side.max_accepted_dust_htlcs;
    if count > MAX_DUST_HTLCS {
        return Err(ParameterFlaw::DustHtlcCountTooLarge { count, maximum: MAX_DUST_HTLCS });
    }
    Ok(())
}
