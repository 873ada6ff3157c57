//! Wallets that break the protocol of a channel: the hub tells them which rule, and the channel is durably failed. Nobody
//! else notices.

use bitcoin::{Amount, TxOut};
use channel::message::{CommitmentSigned, Message, RevokeAndAck, Ticket};
use channel::shachain::CommitmentSecret;
use proto::hub::v1 as pb;
use regtest::lab::{Lab, LabError, LabOptions};
use regtest::wait::{Look, until_seen};

use crate::rogue::{Lie, Rogue, honest};
use crate::support::{SOON, options};

/// A lab whose miner can pay many fundings between two blocks.
async fn lab() -> Lab {
    Lab::start(LabOptions { miner_coins: 20, ..options() }).await.unwrap()
}

/// The hub's row of this channel.
async fn row(lab: &Lab, rogue: &Rogue) -> Result<pb::Channel, LabError> {
    let channels = lab.hub().channels().await?;
    let found = channels.into_iter().find(|one| one.channel_id == rogue.id.0[..]);
    found.ok_or_else(|| LabError::Broken("the hub does not list the channel".to_owned()))
}

/// That the hub lists the channel as failed, for this reason.
async fn assert_failed(lab: &Lab, rogue: &Rogue, why: &str) {
    let row = row(lab, rogue).await.unwrap();
    assert_eq!(row.phase(), pb::ChannelPhase::Failed, "{why}: {row:?}");
    assert!(row.failure.contains(why), "{why}: {}", row.failure);
    assert!(!row.usable, "{row:?}");
}

fn restart(lab: &Lab) -> impl Future<Output = Result<(), LabError>> {
    lab.hub().kill().unwrap();
    lab.hub().start_again()
}

/// A lie, what makes the rogue tell it, and what the hub calls it.
struct Breach {
    lie: Lie,
    act: fn(&mut Rogue),
    why: &'static str,
}

/// A signature in form, of nothing.
fn no_signature() -> channel::keys::CompactSignature {
    channel::keys::CompactSignature::from_bytes([1; 64])
}

fn change_signed(message: Message, change: impl FnOnce(&mut CommitmentSigned)) -> Vec<Message> {
    let mut message = message;
    if let Message::CommitmentSigned(signed) = &mut message {
        change(signed);
    }
    vec![message]
}

const BREACHES: &[Breach] = &[
    Breach {
        lie: |message| change_signed(message, |signed| signed.signatures.commitment = no_signature()),
        act: Rogue::pay,
        why: "the commitment signature does not verify",
    },
    Breach {
        lie: |message| change_signed(message, |signed| signed.signatures.htlcs[0] = no_signature()),
        act: Rogue::pay,
        why: "the signature of HTLC output 0 does not verify",
    },
    Breach {
        lie: |message| match message {
            Message::CommitmentSigned(_) => vec![message.clone(), message],
            other => vec![other],
        },
        act: Rogue::pay,
        why: "commitment 1 was signed already, 2 is next",
    },
    Breach {
        lie: |message| change_signed(message, |signed| signed.number += 1),
        act: Rogue::pay,
        why: "commitment 2 is in the future, 1 is next",
    },
    Breach {
        lie: |message| match message {
            Message::RevokeAndAck(revocation) => {
                let secret = CommitmentSecret::from_bytes([7; 32]);
                vec![Message::RevokeAndAck(RevokeAndAck { secret, ..revocation })]
            }
            other => vec![other],
        },
        act: Rogue::pay,
        why: "the secret is not that of commitment 0",
    },
    Breach {
        lie: |message| match message {
            Message::RevokeAndAck(revocation) => {
                let number = revocation.number + 1;
                vec![Message::RevokeAndAck(RevokeAndAck { number, ..revocation })]
            }
            other => vec![other],
        },
        act: Rogue::pay,
        why: "commitment 1 was revoked, but 0 is next",
    },
    Breach {
        lie: |message| match message {
            Message::ClosingTicket(ticket) => {
                vec![Message::ClosingTicket(Ticket { signature: no_signature(), ..ticket })]
            }
            other => vec![other],
        },
        act: Rogue::close,
        why: "the ticket's signature does not verify",
    },
    Breach {
        lie: |message| match message {
            Message::ClosingTicket(mut ticket) => {
                ticket.terms.fee += Amount::ONE_SAT;
                vec![Message::ClosingTicket(ticket)]
            }
            other => vec![other],
        },
        act: Rogue::close,
        why: "the ticket is for terms never proposed",
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn a_breach_of_a_channels_rules_is_named_to_who_did_it_and_fails_the_channel_for_good() {
    let lab = lab().await;
    let mut rogues = Vec::new();
    for (breach, seed) in BREACHES.iter().zip(10..) {
        rogues.push((breach, Rogue::open(&lab, seed).await));
    }
    // One that keeps to the rules, and lives on beside the others.
    let mut neighbour = Rogue::open(&lab, 9).await;
    lab.mine(6).await.unwrap();
    let height = lab.chain().height().await.unwrap();
    neighbour.ready(height).await;
    for (breach, rogue) in &mut rogues {
        rogue.ready(height).await;
        rogue.lie = breach.lie;
        (breach.act)(rogue);
        let told = rogue.told().await;
        assert!(told.contains(breach.why), "{}: {told}", breach.why);
        assert_failed(&lab, rogue, breach.why).await;
    }
    assert_eq!(row(&lab, &neighbour).await.unwrap().phase(), pb::ChannelPhase::Open);

    restart(&lab).await.unwrap();
    for (breach, rogue) in &mut rogues {
        assert_failed(&lab, rogue, breach.why).await;
        rogue.lie = honest;
        let told = rogue.told_again(&lab).await;
        assert!(told.contains(breach.why), "{}: {told}", breach.why);
    }
    assert_eq!(row(&lab, &neighbour).await.unwrap().phase(), pb::ChannelPhase::Open);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_funding_that_pays_another_script_or_amount_never_makes_a_channel() {
    let lab = lab().await;
    let falsified: [fn(TxOut) -> TxOut; 3] = [
        |wanted| TxOut { value: wanted.value - Amount::ONE_SAT, ..wanted },
        |wanted| TxOut { value: wanted.value + Amount::ONE_SAT, ..wanted },
        |wanted| TxOut { script_pubkey: wanted.script_pubkey.to_p2wsh(), ..wanted },
    ];
    let why = "the funding transaction on the chain is not the one agreed";
    let mut rogues = Vec::new();
    for (falsify, seed) in falsified.into_iter().zip(10..) {
        let mut rogue = Rogue::propose(&lab, seed).await;
        let output = falsify(rogue.wanted());
        rogue.fund_with(&lab, output).await;
        rogues.push(rogue);
    }
    lab.mine(1).await.unwrap();
    for rogue in &mut rogues {
        let told = rogue.told().await;
        assert!(told.contains(why), "{told}");
        assert!(!rogue.hub_is_ready());
        assert_failed(&lab, rogue, why).await;
    }
    restart(&lab).await.unwrap();
    for rogue in &rogues {
        until_seen("the hub's books after its restart", SOON, async || {
            let row = row(&lab, rogue).await?;
            Ok(if row.failure.contains(why) { Look::Seen(()) } else { Look::NotYet(format!("{row:?}")) })
        })
        .await
        .unwrap();
        assert_failed(&lab, rogue, why).await;
    }
    // Deep in the chain it can become no other, and whoever makes them must not fill the hub's books with them.
    lab.mine(6).await.unwrap();
    until_seen("the end of channels that were never funded", SOON, async || {
        let channels = lab.hub().channels().await?;
        Ok(if channels.is_empty() { Look::Seen(()) } else { Look::NotYet(format!("{channels:?}")) })
    })
    .await
    .unwrap();
}
