//! Which claims share a transaction.
//!
//! Claims are kept apart by what a transaction has one of (version, lock time, for HTLC transactions; other claims agree
//! with any), by whether the counterparty can spend the output too, and by deadline, so that nothing patient pays an
//! urgent feerate. A counterparty that spends one contested output makes the whole transaction invalid: so contested
//! claims stay among those of their own channel, few together, and never touch what nobody can contest.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Amount, FeeRate, OutPoint, Script, Weight};
use channel::claim::{Claim, ClaimKind, Contest};
use channel::ids::OwnerId;

use super::OwnedClaim;
use super::fee::claim_budget;
use super::worth::last_budget;
use crate::limits;
use crate::weigh;

/// Whether the counterparty can spend an output too, coarse enough for outputs to share a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContestClass {
    /// It never can.
    Never,
    /// It can from a height within this stretch of [`limits::CONTEST_BUCKET_BLOCKS`] blocks on.
    From {
        /// The height divided by the stretch's length.
        bucket: u32,
    },
    /// It can in the next block.
    Now,
}

impl ContestClass {
    /// The class with the chain's tip at `tip`.
    pub fn of(contest: Contest, tip: u32) -> Self {
        match contest {
            Contest::Never => Self::Never,
            Contest::From { height } if height > tip.saturating_add(1) => {
                Self::From { bucket: height / limits::CONTEST_BUCKET_BLOCKS }
            }
            Contest::From { .. } | Contest::Now => Self::Now,
        }
    }
}

/// What all claims of one transaction have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    /// HTLC transactions: version and lock time are signed by the counterparty.
    Htlc { version: i32, lock_time: u32 },
    /// Any version from 2 on, and the highest lock time.
    Direct,
}

impl Form {
    fn of(claim: &Claim) -> Self {
        match claim.fixed_version() {
            Some(version) => {
                Self::Htlc { version: version.0, lock_time: claim.lock_time().to_consensus_u32() }
            }
            None => Self::Direct,
        }
    }

    /// The heaviest transaction of this form.
    fn maximum_weight(self) -> Weight {
        match self {
            Self::Htlc { version, .. } => limits::maximum_weight(Version::non_standard(version)),
            Self::Direct => limits::maximum_weight(Version::TWO),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    form: Form,
    class: ContestClass,
    /// Of what is contested now.
    owner: Option<OwnerId>,
}

/// Claims for one transaction. Only [`group`] makes one, so it is never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    claims: Vec<OwnedClaim>,
    class: ContestClass,
    /// Anything that leaves something is right: at this feerate, the lowest.
    last_resort: Option<FeeRate>,
}

impl Group {
    /// The claims, the most urgent first.
    pub fn claims(&self) -> &[OwnedClaim] {
        &self.claims
    }

    /// Whether they are contested.
    pub fn class(&self) -> ContestClass {
        self.class
    }

    /// What they spend.
    pub fn outpoints(&self) -> impl Iterator<Item = OutPoint> {
        self.claims.iter().map(|owned| owned.claim.outpoint)
    }

    /// The nearest deadline.
    pub fn deadline(&self) -> Option<u32> {
        self.claims.iter().filter_map(|owned| owned.claim.deadline).min()
    }

    /// The version of the transaction.
    pub fn version(&self) -> Version {
        version_of(self.claims.iter().map(|owned| &owned.claim))
    }

    /// Its lock time.
    pub fn lock_time(&self) -> LockTime {
        lock_time_of(self.claims.iter().map(|owned| &owned.claim))
    }

    /// The most that its fee may be.
    pub fn budget(&self) -> Amount {
        self.budget_of(self.claims.iter().map(|owned| &owned.claim))
    }

    /// The most that taking these of its claims may cost.
    pub(super) fn budget_of<'a>(&self, claims: impl Iterator<Item = &'a Claim>) -> Amount {
        match self.last_resort {
            None => claim_budget(claims),
            Some(floor) => last_budget(claims, floor),
        }
    }

    /// The same claims at `floor`, the lowest feerate there is: no patience makes them cheaper, so their fee may be all
    /// but what still leaves something. For claims that are not worth half of their value in fees.
    pub fn as_last_resort(&self, floor: FeeRate) -> Self {
        Self { last_resort: Some(floor), ..self.clone() }
    }

    /// The feerate of a last resort; none of a group that follows the fees.
    pub fn last_resort(&self) -> Option<FeeRate> {
        self.last_resort
    }

    /// What its transaction weighs with one output to `script` and, where the claims cannot pay the fee themselves, one
    /// coin.
    pub fn weight(&self, script: &Script) -> Weight {
        let coin = if self.needs_coins() { weigh::coin_input() } else { Weight::ZERO };
        let claims: Weight = self.claims.iter().map(|owned| weigh::claim(&owned.claim)).sum();
        weigh::FIXED + weigh::output(script) + coin + claims
    }

    /// Whether any coin may be added: always for HTLC transactions, and for HTLCs that we offered and that may be worth less
    /// than what takes them back. Others get none but those to spare.
    pub fn may_need_coins(&self) -> bool {
        let offered = |owned: &OwnedClaim| matches!(owned.claim.kind, ClaimKind::HtlcTimeout { .. });
        self.needs_coins() || self.claims.iter().any(offered)
    }

    /// True for HTLC transactions, whose outputs take all that their inputs bring.
    pub fn needs_coins(&self) -> bool {
        self.claims.iter().any(|owned| owned.claim.paired_output().is_some())
    }
}

/// The version that these claims ask for.
pub(crate) fn version_of<'a>(mut claims: impl Iterator<Item = &'a Claim>) -> Version {
    claims.find_map(Claim::fixed_version).unwrap_or(Version::TWO)
}

/// The highest lock time that these claims ask for.
pub(crate) fn lock_time_of<'a>(claims: impl Iterator<Item = &'a Claim>) -> LockTime {
    claims
        .map(Claim::lock_time)
        .max_by_key(|lock_time| lock_time.to_consensus_u32())
        .unwrap_or(LockTime::ZERO)
}

/// Groups every claim that a block on top of `tip` may hold; the others wait. An outpoint named twice counts once.
pub fn group(claims: &[OwnedClaim], tip: u32) -> Vec<Group> {
    let mut seen = BTreeSet::new();
    let mut kinds: BTreeMap<Key, Vec<&OwnedClaim>> = BTreeMap::new();
    for owned in claims {
        let claim = &owned.claim;
        if claim.earliest_height > tip.saturating_add(1) || !seen.insert(claim.outpoint) {
            continue;
        }
        let class = ContestClass::of(claim.contest, tip);
        let owner = match class {
            ContestClass::Now => Some(owned.owner),
            ContestClass::Never | ContestClass::From { .. } => None,
        };
        kinds.entry(Key { form: Form::of(claim), class, owner }).or_default().push(owned);
    }
    kinds.into_iter().flat_map(|(key, claims)| split(key, claims)).collect()
}

/// Splits claims of one kind by deadline, count and weight.
fn split(key: Key, mut claims: Vec<&OwnedClaim>) -> Vec<Group> {
    claims.sort_by_key(|owned| (owned.claim.deadline.unwrap_or(u32::MAX), owned.claim.outpoint));
    let room = key.form.maximum_weight().checked_sub(weigh::claim_overhead()).unwrap_or(Weight::ZERO);
    let most = match key.class {
        ContestClass::Now => limits::MAX_CONTESTED_CLAIMS,
        ContestClass::Never | ContestClass::From { .. } => limits::MAX_GROUPED_CLAIMS,
    };
    let mut groups: Vec<Group> = Vec::new();
    let mut weight = Weight::ZERO;
    for owned in claims {
        let more = weigh::claim(&owned.claim);
        let fits = |group: &&mut Group| {
            let near = match (group.deadline(), owned.claim.deadline) {
                (None, None) => true,
                (Some(first), Some(later)) => later.saturating_sub(first) < limits::DEADLINE_SPREAD_BLOCKS,
                (None, Some(_)) | (Some(_), None) => false,
            };
            near && group.claims.len() < most && weight + more <= room
        };
        match groups.last_mut().filter(fits) {
            Some(group) => {
                group.claims.push(owned.clone());
                weight += more;
            }
            None => {
                let claims = vec![owned.clone()];
                groups.push(Group { claims, class: key.class, last_resort: None });
                weight = more;
            }
        }
    }
    groups
}
