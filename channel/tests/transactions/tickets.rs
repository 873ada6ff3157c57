//! Closing tickets: what a wallet signs, what a hub merges, and what each refuses.

use bitcoin::absolute::LockTime;
use bitcoin::secp256k1::{Message, SECP256K1, SecretKey};
use bitcoin::sighash::SighashCache;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, EcdsaSighashType, OutPoint, ScriptBuf, Sequence, Transaction, TxOut, Txid, hashes::Hash,
};
use channel::amount::Msat;
use channel::bytes::KeyId;
use channel::closing::{
    BatchSighashes, ClosingOutput, ClosingOutputs, ClosingTransaction, PlacementFlaw, TicketFlaw, TicketSpec,
};
use channel::format::CommitmentFormat;
use channel::keys::{CompactSignature, Point};
use channel::seed_signer::SeedSigner;
use channel::signer::{Signer, SignerError};

use super::pair::{DUST_LIMIT, FUNDING, pair, spends};

fn script(byte: u8) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_byte_array([byte; 20]))
}

type Change = fn(&mut Transaction);

struct Close {
    key: KeyId,
    spec: TicketSpec,
    ticket: CompactSignature,
}

fn hub() -> SeedSigner {
    SeedSigner::new(&[1; 64])
}

fn wallet() -> SeedSigner {
    SeedSigner::new(&[2; 64])
}

fn spec(number: u8, balance_sat: u32) -> (KeyId, TicketSpec) {
    let key = KeyId::from_bytes([number; 32]);
    let spec = TicketSpec {
        funding_outpoint: OutPoint { txid: Txid::from_byte_array([number; 32]), vout: u32::from(number) },
        funding_amount: FUNDING,
        wallet_key: wallet().channel_public_keys(&key).funding,
        hub_key: hub().channel_public_keys(&key).funding,
        wallet_balance: Msat::from_sat_u32(balance_sat),
        fee: Amount::from_sat(130),
        dust_limit: DUST_LIMIT,
        wallet_script: script(number),
    };
    (key, spec)
}

fn close(number: u8, balance_sat: u32) -> Close {
    let (key, spec) = spec(number, balance_sat);
    let ticket = wallet().sign_ticket(&key, &spec).unwrap();
    assert_eq!(spec.verify(&ticket), Ok(()));
    Close { key, spec, ticket }
}

fn batch(closes: &[&Close]) -> Transaction {
    let mut output: Vec<_> = closes.iter().filter_map(|close| close.spec.payout()).collect();
    output.push(TxOut { value: Amount::from_sat(1_000_000), script_pubkey: script(99) });
    let input = closes.iter().map(|close| close.spec.input()).collect();
    Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input, output }
}

fn sign(batch: &mut Transaction, closes: &[&Close]) {
    let unsigned = batch.clone();
    let mut sighashes = BatchSighashes::new(&unsigned);
    for (index, close) in closes.iter().enumerate() {
        let sighash = sighashes.sighash(index, &close.spec).unwrap();
        let signature = hub().sign_closing_input(&close.key, &sighash);
        batch.input[index].witness = close.spec.witness(&close.ticket, &signature).unwrap();
    }
}

fn all_spend(batch: &Transaction, closes: &[&Close]) -> bool {
    closes.iter().enumerate().all(|(index, close)| spends(batch, index, &close.spec.spent_output()))
}

#[test]
fn tickets_merge_in_any_order_and_number_with_the_same_signatures() {
    let (first, second, third, poor) = (close(1, 300_000), close(2, 1_000_000), close(3, 400), close(4, 353));
    assert_eq!(poor.spec.payout(), None);
    assert_eq!(poor.spec.sighash_type(), EcdsaSighashType::NonePlusAnyoneCanPay);
    for closes in [
        vec![&first, &second, &third, &poor],
        vec![&third, &first, &poor],
        vec![&second],
        vec![&poor],
        vec![&second, &poor],
    ] {
        let mut batch = batch(&closes);
        sign(&mut batch, &closes);
        assert!(all_spend(&batch, &closes));
    }
}

/// Signs an input of any transaction as a hub without scruples would.
fn sign_anything(batch: &Transaction, index: usize, spec: &TicketSpec, hub: &SecretKey) -> CompactSignature {
    let sighash = SighashCache::new(batch)
        .p2wsh_signature_hash(index, &spec.witness_script(), spec.funding_amount, EcdsaSighashType::All)
        .unwrap();
    SECP256K1.sign_ecdsa(&Message::from(sighash), hub).into()
}

#[test]
fn a_payout_cannot_be_lowered_moved_or_redirected_even_by_the_hub() {
    let hub = SecretKey::from_slice(&[42; 32]).unwrap();
    let mut first = close(1, 300_000);
    first.spec.hub_key = hub.public_key(SECP256K1).into();
    first.ticket = wallet().sign_ticket(&first.key, &first.spec).unwrap();
    let second = close(2, 500_000);
    let changes: [(bool, Change); 9] = [
        (true, |_| {}),
        (true, |batch| batch.output[1].value = Amount::ZERO),
        (true, |batch| batch.output.truncate(1)),
        (false, |batch| batch.output[0].value -= Amount::ONE_SAT),
        (false, |batch| batch.output[0].script_pubkey = script(99)),
        (false, |batch| batch.output.swap(0, 2)),
        (false, |batch| batch.output.clear()),
        (false, |batch| batch.version = Version::non_standard(3)),
        (false, |batch| batch.input[0].sequence = Sequence::MAX),
    ];
    for (holds, change) in changes {
        let mut changed = batch(&[&first, &second]);
        change(&mut changed);
        let signature = sign_anything(&changed, 0, &first.spec, &hub);
        assert_eq!(BatchSighashes::new(&changed).sighash(0, &first.spec).is_ok(), holds);
        changed.input[0].witness = first.spec.witness(&first.ticket, &signature).unwrap();
        assert_eq!(spends(&changed, 0, &first.spec.spent_output()), holds);
    }
}

#[test]
fn a_ticket_in_the_wrong_place_is_refused_by_name() {
    let (first, second, poor) = (close(1, 300_000), close(2, 500_000), close(3, 0));
    let good = batch(&[&first, &second, &poor]);
    let sighash = |batch: &Transaction, index, close: &Close| {
        BatchSighashes::new(batch).sighash(index, &close.spec).err()
    };
    assert_eq!(sighash(&good, 0, &first), None);
    assert_eq!(sighash(&good, 2, &poor), None);
    assert_eq!(sighash(&good, 1, &first), Some(PlacementFlaw::Input { index: 1 }));
    assert_eq!(sighash(&good, 9, &first), Some(PlacementFlaw::Input { index: 9 }));
    let swapped = Transaction { output: good.output.iter().rev().cloned().collect(), ..good.clone() };
    assert_eq!(sighash(&swapped, 0, &first), Some(PlacementFlaw::Output { index: 0 }));
    let version = Transaction { version: Version::ONE, ..good.clone() };
    assert_eq!(sighash(&version, 0, &first), Some(PlacementFlaw::Version));
    let locked = Transaction { lock_time: LockTime::from_consensus(9), ..good };
    assert_eq!(sighash(&locked, 0, &first), Some(PlacementFlaw::LockTime));
}

#[test]
fn a_fee_never_takes_a_payout_away() {
    let payout = |balance_msat: u32, fee_sat| {
        let (_, mut spec) = spec(1, 0);
        spec.wallet_balance = Msat::from_u32(balance_msat);
        spec.fee = Amount::from_sat(fee_sat);
        spec.payout().map(|output| output.value.to_sat())
    };
    assert_eq!(payout(100_000_999, 130), Some(99_870));
    assert_eq!(payout(400_000, 130), Some(354));
    assert_eq!(payout(354_000, 130), Some(354));
    assert_eq!(payout(353_999, 130), None);
    assert_eq!(payout(100_000_000, u64::MAX), Some(354));
}

#[test]
fn a_signer_refuses_a_ticket_that_could_cost_its_owner() {
    let (key, good) = spec(1, 300_000);
    let signer = wallet();
    let sign = |change: fn(&mut TicketSpec)| {
        let mut bad = good.clone();
        change(&mut bad);
        signer.sign_ticket(&key, &bad)
    };
    assert!(sign(|_| {}).is_ok());
    let dust_limit = Amount::from_sat(353);
    assert_eq!(
        sign(|spec| spec.dust_limit = Amount::from_sat(353)),
        Err(SignerError::Ticket(TicketFlaw::DustLimitOutOfRange { dust_limit }))
    );
    let dust_limit = Amount::from_sat(300_001);
    assert_eq!(
        sign(|spec| spec.dust_limit = Amount::from_sat(300_001)),
        Err(SignerError::Ticket(TicketFlaw::DustLimitOutOfRange { dust_limit }))
    );
    assert_eq!(
        sign(|spec| spec.wallet_balance = Msat::from_sat_u32(1_000_001)),
        Err(SignerError::Ticket(TicketFlaw::BalanceExceedsFunding {
            balance: Msat::from_sat_u32(1_000_001),
            funding: FUNDING
        }))
    );
    for script in [ScriptBuf::new(), ScriptBuf::new_op_return([1; 8]), ScriptBuf::new_p2a()] {
        let mut bad = good.clone();
        bad.wallet_script = script;
        let refused = Err(SignerError::Ticket(TicketFlaw::NonStandardScript));
        assert_eq!(signer.sign_ticket(&key, &bad), refused);
    }
    assert_eq!(sign(|spec| spec.wallet_key = spec.hub_key), Err(SignerError::ForeignKey));
}

#[test]
fn a_ticket_holds_for_exactly_what_it_names() {
    let good = close(1, 300_000);
    let change: [fn(&mut TicketSpec); 7] = [
        |spec| spec.funding_outpoint.vout += 1,
        |spec| spec.funding_amount += Amount::ONE_SAT,
        |spec| spec.wallet_balance = Msat::from_sat_u32(300_001),
        |spec| spec.fee += Amount::ONE_SAT,
        |spec| spec.wallet_script = script(7),
        |spec| std::mem::swap(&mut spec.wallet_key, &mut spec.hub_key),
        |spec| spec.wallet_balance = Msat::ZERO,
    ];
    for change in change {
        let mut other = good.spec.clone();
        change(&mut other);
        assert_eq!(other.verify(&good.ticket), Err(TicketFlaw::Signature));
    }
    let mut other = good.spec.clone();
    other.wallet_key = Point::from_bytes([2; 33]);
    assert!(matches!(other.verify(&good.ticket), Err(TicketFlaw::Signature | TicketFlaw::Key(_))));
}

#[test]
fn an_ordinary_close_pays_both_and_the_opener_pays_the_fee() {
    let pair = pair(CommitmentFormat::ZeroFeeCommitments);
    let parts = |holder: &ClosingOutput, counterparty: &ClosingOutput| ClosingOutputs {
        holder: holder.clone(),
        counterparty: counterparty.clone(),
    };
    let opener = ClosingOutput { balance: Msat::from_u32(700_000_400), script: script(1) };
    let accepter = ClosingOutput { balance: Msat::from_u32(299_999_600), script: script(2) };
    let fee = Amount::from_sat(1_000);
    let closing = ClosingTransaction::build(&pair.opener.context, &parts(&opener, &accepter), fee).unwrap();
    let other = ClosingTransaction::build(&pair.accepter.context, &parts(&accepter, &opener), fee).unwrap();
    assert_eq!(closing, other);
    let values: Vec<_> = closing.transaction().output.iter().map(|output| output.value.to_sat()).collect();
    assert_eq!(values, [299_999, 699_000]);

    let sign = |party: &super::pair::Party| {
        party.signer.sign_closing_input(&party.key, &closing.sighash(&party.context))
    };
    let signed = closing.signed(&pair.opener.context, &sign(&pair.opener), &sign(&pair.accepter)).unwrap();
    assert!(spends(&signed, 0, &pair.opener.context.funding_output()));

    // A balance below the dust limit has no output, and a fee beyond the opener's balance no transaction.
    let little = ClosingOutput { balance: Msat::from_u32(353_999), script: script(2) };
    let closing = ClosingTransaction::build(&pair.opener.context, &parts(&opener, &little), fee).unwrap();
    assert_eq!(closing.transaction().output.len(), 1);
    assert_eq!(ClosingTransaction::build(&pair.opener.context, &parts(&little, &opener), fee), None);
}
