//! Arbitrary messages that are well-formed, with every variant among them.

use bitcoin::hashes::Hash;
use bitcoin::{Amount, OutPoint, ScriptBuf, Txid};
use channel::amount::Msat;
use channel::commitment::CommitmentSignatures;
use channel::failure::FailureReason;
use channel::ids::StreamId;
use channel::keys::{Basepoints, CompactSignature, Point};
use channel::message::{
    AcceptChannel, ClosingTerms, CommitmentSigned, Essentials, ForwardInstruction, FundingCreated,
    FundingSigned, Message, OpenChannel, PaymentHash, Preimage, Recipient, Reestablish, RevokeAndAck,
    Shutdown, SideParameters, Ticket, UpdateAddHtlc,
};
use channel::shachain::CommitmentSecret;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

pub fn point() -> impl Strategy<Value = Point> {
    (1u64..1_000_000).prop_map(|scalar| {
        let mut bytes = [0; 32];
        bytes[24..].copy_from_slice(&scalar.to_be_bytes());
        let secret = secp256k1::SecretKey::from_slice(&bytes).expect("small and not zero");
        Point::from(secp256k1::PublicKey::from_secret_key(secp256k1::SECP256K1, &secret))
    })
}

pub fn signature() -> impl Strategy<Value = CompactSignature> {
    (vec(1u8..0x7f, 64)).prop_map(|bytes| CompactSignature::from_slice(&bytes).expect("64 bytes"))
}

pub fn msat() -> impl Strategy<Value = Msat> {
    (0..=Msat::MAX.to_u64()).prop_map(|msat| Msat::new(msat).expect("within bounds"))
}

fn sat() -> impl Strategy<Value = u64> {
    0..=Amount::MAX_MONEY.to_sat()
}

fn number() -> impl Strategy<Value = u64> {
    0..1u64 << 48
}

fn bytes(limit: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..=limit)
}

fn side() -> impl Strategy<Value = SideParameters> {
    let points = (point(), point(), point(), point(), point(), point(), point());
    (points, 1u16.., msat(), msat(), any::<u16>(), any::<u16>()).prop_map(
        |(points, delay, minimum, in_flight, htlcs, dust)| SideParameters {
            basepoints: Basepoints {
                funding: points.0,
                revocation: points.1,
                payment: points.2,
                delayed_payment: points.3,
                htlc: points.4,
            },
            first_point: points.5,
            second_point: points.6,
            to_self_delay_blocks: delay,
            htlc_minimum_msat: minimum,
            max_htlc_value_in_flight_msat: in_flight,
            max_accepted_htlcs: htlcs,
            max_accepted_dust_htlcs: dust,
        },
    )
}

fn outpoint() -> impl Strategy<Value = OutPoint> {
    any::<([u8; 32], u32)>().prop_map(|(txid, vout)| OutPoint { txid: Txid::from_byte_array(txid), vout })
}

fn terms() -> impl Strategy<Value = ClosingTerms> {
    (sat(), 0u32..500_000_000)
        .prop_map(|(fee, publish_by_height)| ClosingTerms { fee: Amount::from_sat(fee), publish_by_height })
}

fn essentials() -> impl Strategy<Value = Essentials> {
    (outpoint(), sat(), "[a-z_]{0,64}", any::<bool>(), side(), side(), bytes(256)).prop_map(
        |(outpoint, capacity_sat, format, receiver_is_opener, sender, receiver, sealed)| Essentials {
            outpoint,
            capacity_sat,
            format,
            receiver_is_opener,
            sender,
            receiver,
            sealed,
        },
    )
}

fn add() -> impl Strategy<Value = Message> {
    let recipient = prop_oneof![
        point().prop_map(Recipient::Node),
        any::<([u8; 16], u64)>().prop_map(|(id, index)| Recipient::Stream { id: StreamId(id), index }),
    ];
    let forward = option::of((msat(), any::<u32>())).prop_map(|forward| {
        forward.map(|(amount_msat, cltv_expiry)| ForwardInstruction { amount_msat, cltv_expiry })
    });
    let add = (any::<u64>(), msat(), any::<[u8; 32]>(), any::<u32>(), recipient, forward, bytes(90))
        .prop_map(|(id, amount_msat, hash, cltv_expiry, recipient, forward, payload)| UpdateAddHtlc {
            id,
            amount_msat,
            payment_hash: PaymentHash::from_bytes(hash),
            cltv_expiry,
            recipient,
            forward,
            payload,
        });
    (add, prop_oneof![Just(Msat::ZERO), msat()]).prop_map(|(add, deducted_msat)| match deducted_msat {
        Msat::ZERO => Message::UpdateAddHtlc(add),
        deducted_msat => Message::PricedAddHtlc { add, deducted_msat },
    })
}

fn updates() -> impl Strategy<Value = Message> {
    prop_oneof![
        add(),
        any::<(u64, [u8; 32])>().prop_map(|(id, preimage)| Message::UpdateFulfillHtlc {
            id,
            preimage: Preimage::from_bytes(preimage)
        }),
        (any::<u64>(), 1u32..=15).prop_map(|(id, code)| Message::UpdateFailHtlc {
            id,
            reason: FailureReason::from_code(code).expect("a known code"),
        }),
        (number(), signature(), vec(signature(), 0..6), bytes(256)).prop_map(
            |(number, commitment, htlcs, sealed)| {
                Message::CommitmentSigned(CommitmentSigned {
                    number,
                    signatures: CommitmentSignatures { commitment, htlcs },
                    sealed,
                })
            }
        ),
        (number(), any::<[u8; 32]>(), point()).prop_map(|(number, secret, next_point)| {
            Message::RevokeAndAck(RevokeAndAck {
                number,
                secret: CommitmentSecret::from_bytes(secret),
                next_point,
            })
        }),
        (number(), number(), any::<[u8; 32]>(), option::of(terms()), option::of(essentials())).prop_map(
            |(next_commitment_number, next_revocation_number, secret, frozen, essentials)| {
                Message::Reestablish(Box::new(Reestablish {
                    next_commitment_number,
                    next_revocation_number,
                    last_secret: CommitmentSecret::from_bytes(secret),
                    frozen,
                    essentials,
                }))
            }
        ),
    ]
}

fn opening_and_closing() -> impl Strategy<Value = Message> {
    prop_oneof![
        ("[a-z_]{0,64}", sat(), sat(), any::<u32>(), side(), msat(), sat(), msat()).prop_map(
            |(
                format,
                capacity_sat,
                dust_limit_sat,
                minimum_depth,
                opener,
                price_msat,
                reserve_sat,
                reserve_price_msat,
            )| {
                Message::OpenChannel(Box::new(OpenChannel {
                    format,
                    capacity_sat,
                    dust_limit_sat,
                    minimum_depth,
                    opener,
                    price_msat,
                    reserve_sat,
                    reserve_price_msat,
                }))
            }
        ),
        (any::<u32>(), side(), bytes(42)).prop_map(|(minimum_depth, accepter, script)| {
            let reserve_script = ScriptBuf::from_bytes(script);
            Message::AcceptChannel(Box::new(AcceptChannel { minimum_depth, accepter, reserve_script }))
        }),
        (outpoint(), signature(), any::<bool>(), bytes(256)).prop_map(
            |(outpoint, signature, shown, sealed)| {
                let transaction = shown
                    .then(|| bitcoin::consensus::deserialize(&minimal_transaction()).expect("it was made"));
                Message::FundingCreated(FundingCreated { outpoint, signature, transaction, sealed })
            }
        ),
        (signature(), bytes(256))
            .prop_map(|(signature, sealed)| Message::FundingSigned(FundingSigned { signature, sealed })),
        Just(Message::ChannelReady),
        bytes(42).prop_map(|script| Message::Shutdown(Shutdown { script: ScriptBuf::from_bytes(script) })),
        terms().prop_map(Message::ClosingTerms),
        (terms(), signature())
            .prop_map(|(terms, signature)| Message::ClosingTicket(Ticket { terms, signature })),
        Just(Message::ClosingTransaction { transaction: minimal_transaction() }),
        ("\\PC{0,200}", any::<bool>())
            .prop_map(|(text, cannot_publish)| Message::ChannelError { text, cannot_publish }),
    ]
}

pub fn message() -> impl Strategy<Value = Message> {
    prop_oneof![updates(), opening_and_closing()]
}

/// One input, one output, in consensus encoding.
fn minimal_transaction() -> Vec<u8> {
    let transaction = bitcoin::Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: vec![bitcoin::TxIn::default()],
        output: vec![bitcoin::TxOut { value: Amount::from_sat(1_000), script_pubkey: ScriptBuf::new() }],
    };
    bitcoin::consensus::serialize(&transaction)
}
