//! Which events can meet which phases of a channel.
//!
//! A pair is met when the event is handed to a channel in the phase; a refusal counts. A peer may say anything at any time, so
//! every message can meet every phase. What is listed as unreachable is what no caller can produce then, whoever is
//! hostile, whenever a process dies and whatever the chain does; a run that meets such a pair has failed, so the list stays
//! true.

use std::collections::BTreeMap;

use channel::channel::Channel;
use channel::event::Event;

use crate::audit::Broken;
use crate::chronicle::Pair;

/// Pairs of which one reason tells: these events in each of these phases.
struct Group {
    why: &'static str,
    phases: &'static [&'static str],
    events: &'static [&'static str],
}

const OPENING: [&str; 4] = ["proposed", "building", "funding-sent", "accepted"];
/// What the chain says.
const CHAIN: [&str; 14] = [
    "FundingConfirmed",
    "FundingUndone",
    "FundingDeep",
    "FundingFinal",
    "FundingNeverConfirms",
    "FundingSpent",
    "SpendUndone",
    "SpendFinal",
    "OutputSpent",
    "OutputSpendUndone",
    "OutputSpendFinal",
    "SeenInMempool",
    "Deadline",
    "OutputGivenUp",
];

/// No run can reach them.
const UNREACHABLE: &[Group] = &[
    Group {
        why: "an opening ends with its session, and a new session ends the old one first",
        phases: &OPENING,
        events: &["Connected"],
    },
    Group {
        why: "the desk answers the one request for a funding, which leaves for building or an opening given up meanwhile",
        phases: &[
            "proposed",
            "funding-sent",
            "accepted",
            "awaiting-confirmation",
            "open",
            "shutting-down",
            "frozen",
            "closing",
            "closed",
            "failed",
            "ending",
        ],
        events: &["FundingBuilt"],
    },
    Group {
        why: "an opening is given up until the funding is signed, and nothing leads back to one",
        phases: &[
            "awaiting-confirmation",
            "open",
            "shutting-down",
            "frozen",
            "closing",
            "closed",
            "failed",
            "ending",
        ],
        events: &["AbortOpening"],
    },
    Group {
        why: "a channel signs when it has updates to sign, which are exchanged only while it is open",
        phases: &[
            "proposed",
            "building",
            "funding-sent",
            "accepted",
            "awaiting-confirmation",
            "frozen",
            "closing",
            "closed",
            "aborted",
            "failed",
            "ending",
        ],
        events: &["SignNow"],
    },
    Group {
        why: "payments go through channels that are open or were, and an opening is never gone back to",
        phases: &["proposed", "building", "funding-sent", "accepted", "awaiting-confirmation"],
        events: &["Offer", "Result", "Ack"],
    },
    Group {
        why: "terms are made for a channel that both sides shut down, which nothing takes back",
        phases: &["proposed", "building", "funding-sent", "accepted", "awaiting-confirmation", "open"],
        events: &["ProposeTerms"],
    },
    Group {
        why: "a wallet that froze says so when it is back, and terms asked for before come with those it froze under",
        phases: &["frozen", "closing"],
        events: &["ProposeTerms"],
    },
    Group {
        why: "a batch is of tickets, and nothing leads from a ticket back to an open channel",
        phases: &[
            "proposed",
            "building",
            "funding-sent",
            "accepted",
            "awaiting-confirmation",
            "open",
            "shutting-down",
        ],
        events: &["ClosingPublished"],
    },
    Group {
        why: "a ticket whose channel is spent is in no batch, and the desk knows of the spend before the channel",
        phases: &["closing", "closed", "ending"],
        events: &["ClosingPublished"],
    },
    Group {
        why: "nothing is watched before both commitments 0 are signed",
        phases: &OPENING,
        events: &CHAIN,
    },
    Group {
        why: "outputs are watched once a commitment was told, which is ending",
        phases: &["awaiting-confirmation", "open", "shutting-down", "frozen", "closing", "failed"],
        events: &["OutputSpent", "OutputSpendFinal", "OutputGivenUp"],
    },
    Group {
        why: "the agreed close has no outputs to be watched, and those of a commitment before it were let go of",
        phases: &["closing"],
        events: &["OutputSpendUndone"],
    },
    Group {
        why: "the mempool is searched for spends of channels that failed",
        phases: &["awaiting-confirmation", "open", "shutting-down", "frozen", "closing"],
        events: &["SeenInMempool"],
    },
    Group {
        why: "a spend that is final was told before, and stays told",
        phases: &["awaiting-confirmation", "open", "shutting-down", "frozen", "failed"],
        events: &["SpendFinal"],
    },
    Group {
        why: "the desk takes a spend back before it takes the funding back or tells another spend",
        phases: &["closing"],
        events: &["FundingUndone", "FundingNeverConfirms", "FundingSpent"],
    },
    Group {
        why: "the desk takes a spend back before it takes the funding back",
        phases: &["ending"],
        events: &["FundingUndone", "FundingNeverConfirms"],
    },
    Group {
        why: "what was final when the channel closed is never undone, and is spent once",
        phases: &["closed"],
        events: &["FundingUndone", "FundingNeverConfirms", "FundingSpent", "SpendUndone"],
    },
    Group {
        why: "a channel that was given up for good was in no block then, and is let go of before the next block is told",
        phases: &["aborted"],
        events: &[
            "FundingUndone",
            "FundingFinal",
            "SpendUndone",
            "SpendFinal",
            "OutputSpendUndone",
            "OutputSpendFinal",
            "OutputGivenUp",
            "SeenInMempool",
        ],
    },
    Group {
        why: "nothing has a deadline here, and a height is told only after what its block did",
        phases: &["awaiting-confirmation", "closing", "closed", "aborted"],
        events: &["Deadline"],
    },
];

/// Runs could reach them, and hardly any does.
const RARE: &[Group] = &[
    Group {
        why: "it is let go of as soon as its end is durable: only what comes in between meets it",
        phases: &["aborted"],
        events: &[
            "AbortOpening",
            "ProposeTerms",
            "Offer",
            "Result",
            "ClosingPublished",
            "FundingNeverConfirms",
            "FundingSpent",
            "OutputSpent",
        ],
    },
    Group {
        why: "it is let go of as soon as its end is durable: only what comes in between meets it",
        phases: &["closed"],
        events: &["ProposeTerms", "OutputSpendUndone", "OutputGivenUp", "SeenInMempool"],
    },
    Group {
        why: "nothing is in flight once both agreed to close: only a result that is told again after a start comes so late",
        phases: &["frozen", "closing"],
        events: &["Result"],
    },
    Group {
        why: "one reorganisation undoes what spent an output, its commitment, and what the channel was before",
        phases: &["awaiting-confirmation", "frozen"],
        events: &["OutputSpendUndone"],
    },
    Group {
        why: "the desk takes a spend back before it tells another: only a start amid a reorganisation tells both at once",
        phases: &["ending"],
        events: &["FundingSpent"],
    },
    Group {
        why: "an output is given up when it is worth less than its claim costs at the lowest feerate",
        phases: &["ending"],
        events: &["OutputGivenUp"],
    },
];

/// Why hardly any run reaches the pair, where that is known.
pub fn why_rare(pair: Pair) -> Option<&'static str> {
    reason(RARE, pair)
}

/// Why no run can reach the pair; `None`: one can.
pub fn why_not(pair: Pair) -> Option<&'static str> {
    reason(UNREACHABLE, pair)
}

fn reason(groups: &'static [Group], (phase, event): Pair) -> Option<&'static str> {
    let group = groups.iter().find(|group| group.phases.contains(&phase) && group.events.contains(&event));
    group.map(|group| group.why)
}

/// Whether some run could reach the pair.
pub fn is_reachable(pair: Pair) -> bool {
    why_not(pair).is_none()
}

/// Every pair, phases in the order of life.
fn all() -> impl Iterator<Item = Pair> {
    Channel::PHASES.into_iter().flat_map(|phase| Event::NAMES.into_iter().map(move |event| (phase, event)))
}

/// Every pair that can be reached.
pub fn reachable() -> impl Iterator<Item = Pair> {
    all().filter(|pair| is_reachable(*pair))
}

/// What cannot be reached, as people read it: each reason with its phases and events.
pub fn unreachable() -> impl Iterator<Item = String> {
    UNREACHABLE
        .iter()
        .map(|Group { why, phases, events }| format!("{why}: {} <- {}", phases.join(", "), events.join(", ")))
}

/// A run that met what none can.
pub fn check(pairs: &BTreeMap<Pair, u64>) -> Result<(), Broken> {
    for (phase, event) in pairs.keys() {
        if let Some(why) = why_not((phase, event)) {
            let what = format!("{event} met a channel that was {phase}, although {why}");
            return Err(Broken::new("events come only when they can", what));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_is_ruled_out_once_at_most_and_by_names_that_there_are() {
        for Group { why, phases, events } in UNREACHABLE.iter().chain(RARE) {
            let strange = phases.iter().find(|phase| !Channel::PHASES.contains(phase));
            assert_eq!(strange, None, "{why}");
            let strange = events.iter().find(|event| !Event::NAMES.contains(event));
            assert_eq!(strange, None, "{why}");
        }
        for (phase, event) in all() {
            let reasons = UNREACHABLE
                .iter()
                .chain(RARE)
                .filter(|group| group.phases.contains(&phase) && group.events.contains(&event));
            assert!(reasons.count() <= 1, "{phase} <- {event}");
        }
    }

    #[test]
    fn whatever_a_peer_may_say_can_come_at_any_time() {
        let messages: Vec<&str> = Event::NAMES.into_iter().take_while(|name| *name != "Connected").collect();
        assert_eq!(messages.len(), 16);
        for phase in Channel::PHASES {
            for message in &messages {
                assert!(is_reachable((phase, message)), "{phase} <- {message}");
            }
        }
    }

    #[test]
    fn a_run_that_meets_what_none_can_has_failed() {
        assert!(check(&BTreeMap::from([(("open", "Offer"), 3)])).is_ok());
        let broken = check(&BTreeMap::from([(("frozen", "SignNow"), 1)])).unwrap_err();
        assert!(broken.what.contains("SignNow met a channel that was frozen"), "{broken}");
    }
}
