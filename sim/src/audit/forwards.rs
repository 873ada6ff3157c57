//! A forward is atomic: what the hub's channels say of the same forward must agree at every moment (DESIGN section 7).
//!
//! The auditor looks at what is written down on both sides, the channel an HTLC came in by and the one it went out by, and
//! knows nothing of messages, attempts that were made, or why. [`atomic`] holds always, whatever is on its way between two
//! shards. [`at_rest`] holds when nothing is: no word may be missing then, and nothing be kept that nobody needs.

use std::collections::{BTreeMap, BTreeSet};

use channel::channel::{AskedFor, ForwardEnd, ForwardPlace, Forwards, GivenUp, PassedOn};
use channel::forward::ForwardKey;
use channel::ids::OwnerId;
use proto::hub::v1::Frame;
use proto::hub::v1::channel_message::Kind;
use proto::hub::v1::frame;

use super::{Broken, Party};

const ATOMIC: &str = "a forward is atomic";
const TAKEN: &str = "what became of a forward is told and taken";
const IN_TIME: &str = "an offer is signed in time or not at all";

/// An HTLC of less than this has no output, and nothing is lost by it but itself.
const LEAST_OUTPUT_MSAT: u64 = 354_000;

/// A channel of the hub's.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    /// The height that its shard has heard of.
    pub height: u32,
    pub forwards: Forwards,
}

/// All channels of the hub's, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Sights {
    pub channels: BTreeMap<OwnerId, Sight>,
    /// Channels of which nothing is known: their records do not fold.
    pub set_aside: BTreeSet<OwnerId>,
}

impl Sights {
    fn asked_for(&self) -> impl Iterator<Item = (OwnerId, &Sight, &AskedFor)> {
        self.channels.iter().flat_map(|(owner, sight)| {
            sight.forwards.asked_for.iter().map(move |asked| (*owner, sight, asked))
        })
    }

    fn passed_on(&self) -> impl Iterator<Item = (OwnerId, &PassedOn)> {
        self.channels
            .iter()
            .flat_map(|(owner, sight)| sight.forwards.passed_on.iter().map(move |passed| (*owner, passed)))
    }

    fn incoming(&self, key: ForwardKey) -> Option<&PassedOn> {
        let sight = self.channels.get(&key.incoming)?;
        sight.forwards.passed_on.iter().find(|passed| passed.htlc_id == key.htlc_id)
    }

    fn outgoing(&self, owner: OwnerId, incoming: OwnerId, htlc_id: u64) -> Option<&AskedFor> {
        let sight = self.channels.get(&owner)?;
        sight
            .forwards
            .asked_for
            .iter()
            .find(|asked| asked.key.incoming == incoming && asked.key.htlc_id == htlc_id)
    }
}

/// What holds whatever is on its way: nothing is let go on the incoming side while the outgoing side may still be paid, nor
/// after it was; and nothing goes out twice.
pub fn atomic(sights: &Sights) -> Result<(), Broken> {
    let mut live: BTreeMap<(OwnerId, u64), (OwnerId, AskedFor)> = BTreeMap::new();
    for (owner, _, asked) in sights.asked_for() {
        let incoming = sights.incoming(asked.key);
        let let_go = incoming.is_some_and(|passed| {
            let moved_on = passed.end.is_none() && passed.attempt > asked.key.attempt;
            passed.end == Some(ForwardEnd::Failed) || moved_on
        });
        let may_be_paid = asked.place != ForwardPlace::Over || asked.told == Some(ForwardEnd::Fulfilled);
        if let_go && may_be_paid {
            let what = format!("channel {} has {asked:?}, but where it came in: {incoming:?}", owner.0);
            return Err(Broken::new(ATOMIC, what));
        }
        if asked.place == ForwardPlace::Over {
            continue;
        }
        let forward = (asked.key.incoming, asked.key.htlc_id);
        if let Some((other, before)) = live.insert(forward, (owner, *asked)) {
            let what = format!("channel {} has {before:?}, and channel {} {asked:?}", other.0, owner.0);
            return Err(Broken::new(ATOMIC, what));
        }
    }
    Ok(())
}

/// What holds besides when the hub has nothing to do: what was passed on is in hand where it was passed on to, every result was
/// taken, and what was taken is forgotten once nothing can bring it up again.
pub fn at_rest(sights: &Sights) -> Result<(), Broken> {
    if let Some(missing) = missing(sights).into_iter().next() {
        return Err(Broken::new(TAKEN, missing.what));
    }
    for (owner, sight, asked) in sights.asked_for() {
        if let ForwardPlace::Queued { sign_by_height } = asked.place
            && sign_by_height < sight.height
        {
            let what = format!("channel {} at height {} has {asked:?}", owner.0, sight.height);
            return Err(Broken::new(IN_TIME, what));
        }
    }
    Ok(())
}

/// A word that one side of a forward owes the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    what: String,
}

/// The words that are on their way between channels, or lost.
pub fn missing(sights: &Sights) -> Vec<Missing> {
    let mut missing = Vec::new();
    for (owner, _, asked) in sights.asked_for() {
        let nobody_takes = sights.set_aside.contains(&asked.key.incoming);
        let untaken = asked.told.is_some() && !asked.acknowledged && !nobody_takes;
        let kept_for_nothing = asked.acknowledged && asked.place == ForwardPlace::Over;
        if untaken || kept_for_nothing {
            let what = format!("channel {} keeps {asked:?}", owner.0);
            missing.push(Missing { what });
        }
    }
    for (owner, passed) in sights.passed_on() {
        if passed.end.is_some() || sights.set_aside.contains(&passed.to) {
            continue;
        }
        let asked = sights.outgoing(passed.to, owner, passed.htlc_id);
        let in_hand = asked.is_some_and(|asked| asked.key.attempt == passed.attempt && asked.told.is_none());
        if !in_hand {
            let what = format!("channel {} waits for {passed:?}, and there is {asked:?}", owner.0);
            missing.push(Missing { what });
        }
    }
    missing
}

/// Whether a forward that failed in one channel is in another's commitment, while the failure was not taken yet.
pub fn tried_again(sights: &Sights) -> bool {
    let live = sights.asked_for().filter(|(_, _, asked)| asked.place == ForwardPlace::Live);
    let live: BTreeSet<(OwnerId, u64)> =
        live.map(|(_, _, asked)| (asked.key.incoming, asked.key.htlc_id)).collect();
    sights.asked_for().any(|(_, _, asked)| {
        let failed = asked.told == Some(ForwardEnd::Failed) && !asked.acknowledged;
        failed && live.contains(&(asked.key.incoming, asked.key.htlc_id))
    })
}

/// Offers that may not be signed any more, as they were last seen.
#[derive(Clone, Debug, Default)]
pub struct Late(BTreeMap<(OwnerId, ForwardKey), u32>);

impl Late {
    /// Looks again: what was too late when it was last seen unsigned must not be in a commitment now.
    pub fn look(&mut self, sights: &Sights) -> Result<(), Broken> {
        for (owner, sight, asked) in sights.asked_for() {
            if let (ForwardPlace::Live, Some(height)) = (asked.place, self.0.get(&(owner, asked.key))) {
                let what = format!(
                    "channel {} at height {}: {asked:?} was late at height {height}",
                    owner.0, sight.height
                );
                return Err(Broken::new(IN_TIME, what));
            }
        }
        let late = sights.asked_for().filter_map(|(owner, sight, asked)| match asked.place {
            ForwardPlace::Queued { sign_by_height } if sign_by_height < sight.height => {
                Some(((owner, asked.key), sight.height))
            }
            ForwardPlace::Queued { .. } | ForwardPlace::Live | ForwardPlace::Over => None,
        });
        self.0 = late.collect();
        Ok(())
    }

    /// Blocks were undone: what was late may be in time.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}

/// What a party failed upstream, or called failed, before anybody decided it, by payment hash, in msat: what had no output. Whoever
/// may take it still, takes it from that party; the cap on dust exposure bounds that.
#[derive(Clone, Debug, Default)]
pub struct Untaken(BTreeMap<(Party, [u8; 32]), u64>);

impl Untaken {
    /// Looks again. What has an output is never excused here: the chain tells what became of it.
    pub fn look(&mut self, party: Party, given_up: impl IntoIterator<Item = GivenUp>) {
        let without_output =
            given_up.into_iter().filter(|htlc| htlc.amount_msat.to_u64() < LEAST_OUTPUT_MSAT);
        self.0.extend(without_output.map(|htlc| {
            let amount_msat = htlc.amount_msat.to_u64();
            ((party, htlc.payment_hash.to_bytes()), amount_msat)
        }));
    }

    /// How much of this payment, at most.
    pub fn of(&self, hash: &[u8; 32]) -> u64 {
        let of_hash = self.0.iter().filter(|((_, given_up), _)| given_up == hash);
        of_hash.map(|(_, amount_msat)| *amount_msat).max().unwrap_or_default()
    }

    /// All that this party gave up, or anybody.
    pub fn by(&self, party: Option<Party>) -> impl Iterator<Item = (&[u8; 32], u64)> {
        let by = self.0.iter().filter(move |((who, _), _)| party.is_none_or(|party| party == *who));
        by.map(|((_, hash), amount_msat)| (hash, *amount_msat))
    }
}

/// An HTLC that the hub added, as it went over the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentAdd {
    pub id: u64,
    pub amount_msat: u64,
    pub cltv_expiry: u32,
}

/// The HTLCs that a frame adds.
pub fn adds_of(frame: &Frame) -> impl Iterator<Item = SentAdd> + '_ {
    let batch = match &frame.kind {
        Some(frame::Kind::Batch(batch)) => Some(batch),
        Some(_) | None => None,
    };
    let messages = batch.into_iter().flat_map(|batch| &batch.channels).flat_map(|channel| &channel.messages);
    messages.filter_map(|message| match &message.kind {
        Some(Kind::UpdateAddHtlc(add)) => {
            let (id, amount_msat, cltv_expiry) = (add.id, add.amount_msat, add.cltv_expiry);
            Some(SentAdd { id, amount_msat, cltv_expiry })
        }
        Some(_) | None => None,
    })
}

/// What was sent over a connection that began at a height must not have expired by then.
pub fn check_sent(add: SentAdd, wallet: usize, began_at: u32) -> Result<(), Broken> {
    if add.cltv_expiry > began_at || add.amount_msat < LEAST_OUTPUT_MSAT {
        return Ok(());
    }
    let what = format!("wallet {wallet}, connected since height {began_at}, is sent {add:?}");
    Err(Broken::new("what has expired is never sent again", what))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: OwnerId = OwnerId(1);
    const B: OwnerId = OwnerId(2);
    const C: OwnerId = OwnerId(3);

    fn passed(attempt: u32, end: Option<ForwardEnd>) -> PassedOn {
        PassedOn { htlc_id: 7, to: B, attempt, end }
    }

    fn asked(attempt: u32, place: ForwardPlace, told: Option<ForwardEnd>) -> AskedFor {
        AskedFor { key: ForwardKey { incoming: A, htlc_id: 7, attempt }, place, told, acknowledged: false }
    }

    fn sights(passed: Option<PassedOn>, at_b: Option<AskedFor>, at_c: Option<AskedFor>) -> Sights {
        let sight = |passed: Option<PassedOn>, asked: Option<AskedFor>| Sight {
            height: 100,
            forwards: Forwards {
                passed_on: passed.into_iter().collect(),
                asked_for: asked.into_iter().collect(),
                given_up: Vec::new(),
            },
        };
        let channels = [(A, sight(passed, None)), (B, sight(None, at_b)), (C, sight(None, at_c))];
        Sights { channels: channels.into_iter().collect(), set_aside: BTreeSet::new() }
    }

    const FAILED: Option<ForwardEnd> = Some(ForwardEnd::Failed);
    const FULFILLED: Option<ForwardEnd> = Some(ForwardEnd::Fulfilled);

    #[test]
    fn what_may_still_be_paid_is_not_let_go_and_goes_out_once() {
        use ForwardPlace::{Live, Over};
        let queued = ForwardPlace::Queued { sign_by_height: 100 };
        for (passed_on, at_b, at_c, holds) in [
            (passed(1, None), asked(1, Live, None), None, true),
            (passed(1, FAILED), asked(1, Live, None), None, false),
            (passed(1, FAILED), asked(1, queued, None), None, false),
            (passed(1, FAILED), asked(1, Live, FAILED), None, false),
            (passed(1, FAILED), asked(1, Over, FAILED), None, true),
            (passed(1, FAILED), asked(1, Over, FULFILLED), None, false),
            (passed(1, FULFILLED), asked(1, Live, FULFILLED), None, true),
            (passed(2, None), asked(1, Live, None), None, false),
            (passed(2, FULFILLED), asked(1, Live, FULFILLED), None, true),
            (passed(2, None), asked(1, Over, FAILED), Some(asked(2, Live, None)), true),
            (passed(2, None), asked(1, Live, None), Some(asked(2, Live, None)), false),
        ] {
            let case = sights(Some(passed_on), Some(at_b), at_c);
            assert_eq!(atomic(&case).is_ok(), holds, "{passed_on:?} {at_b:?} {at_c:?}");
        }
        atomic(&sights(None, Some(asked(1, Live, None)), Some(asked(1, Live, None)))).unwrap_err();
    }

    #[test]
    fn at_rest_no_word_is_missing_and_nothing_is_kept_for_nothing() {
        use ForwardPlace::{Live, Over};
        let taken = |asked: AskedFor| AskedFor { acknowledged: true, ..asked };
        for (passed_on, at_b, holds) in [
            (Some(passed(1, None)), Some(asked(1, Live, None)), true),
            (Some(passed(1, None)), None, false),
            (Some(passed(2, None)), Some(asked(1, Over, FAILED)), false),
            (Some(passed(1, None)), Some(asked(1, Over, FAILED)), false),
            (Some(passed(1, FAILED)), None, true),
            (None, Some(asked(1, Over, FAILED)), false),
            (None, Some(taken(asked(1, Over, FAILED))), false),
            (None, Some(taken(asked(1, Live, FULFILLED))), true),
            (None, Some(asked(1, ForwardPlace::Queued { sign_by_height: 100 }, None)), true),
            (None, Some(asked(1, ForwardPlace::Queued { sign_by_height: 99 }, None)), false),
        ] {
            let mut case = sights(passed_on, at_b, None);
            assert_eq!(at_rest(&case).is_ok(), holds, "{passed_on:?} {at_b:?}");
            case.set_aside.extend([A, B]);
            if passed_on.is_some() && at_b.is_none() {
                at_rest(&case).unwrap();
            }
        }
    }

    #[test]
    fn what_was_late_when_it_was_seen_unsigned_is_never_signed() {
        let queued = |sign_by_height| {
            let place = ForwardPlace::Queued { sign_by_height };
            sights(Some(passed(1, None)), Some(asked(1, place, None)), None)
        };
        let live = sights(Some(passed(1, None)), Some(asked(1, ForwardPlace::Live, None)), None);
        let mut late = Late::default();
        late.look(&queued(100)).unwrap();
        late.look(&live).unwrap();
        late.look(&queued(99)).unwrap();
        late.clone().look(&live).unwrap_err();
        late.forget();
        late.look(&live).unwrap();
    }

    #[test]
    fn a_connection_carries_no_add_that_had_expired_when_it_began() {
        let add = SentAdd { id: 0, amount_msat: LEAST_OUTPUT_MSAT, cltv_expiry: 100 };
        check_sent(add, 0, 99).unwrap();
        check_sent(add, 0, 100).unwrap_err();
        check_sent(SentAdd { amount_msat: LEAST_OUTPUT_MSAT - 1, ..add }, 0, 100).unwrap();
    }
}
