//! The specification's examples of invoices (BOLT 11, "Examples" and "Examples of Invalid Invoices").
//!
//! The variable `BOLT_VECTORS` names another folder with a file of the same format.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::*;
use crate::ledger::invoices::{Read, read};
use crate::limits;

const FILE: &str = "bolt11.json";

fn cases(expected: &str) -> Vec<Value> {
    let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let folder = std::env::var_os("BOLT_VECTORS").filter(|folder| !folder.is_empty());
    let path = folder.map_or_else(own, PathBuf::from).join(FILE);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let document: Value = serde_json::from_str(&text).unwrap();
    let cases = document["cases"].as_array().unwrap();
    let cases: Vec<_> = cases.iter().filter(|case| case["expect"] == expected).cloned().collect();
    assert!(!cases.is_empty(), "{} has no {expected} case", path.display());
    println!("\n{FILE}: {} {expected} cases", cases.len());
    cases
}

fn text(case: &Value) -> &str {
    case["invoice"].as_str().unwrap()
}

#[test]
fn vectors_of_invalid_invoices_are_refused_by_name_and_leave_nothing() {
    let mut payer = Rig::new(1);
    for case in cases("invalid") {
        let refusal = payer.pay(text(&case)).expect_err(text(&case));
        // An unknown feature that must be understood makes a good invoice one for other wallets.
        let unsupported = case["reason"].as_str().unwrap().contains("unknown feature");
        match refusal {
            LedgerRefusal::InvoiceUnsupported { .. } if unsupported => {}
            LedgerRefusal::InvoiceMalformed { why } if !unsupported => assert!(!why.is_empty()),
            other => panic!("{}: {other:?}", case["reason"]),
        }
    }
    assert!(payer.records.is_empty(), "refusals leave nothing in the journal");
}

#[test]
fn vectors_of_valid_invoices_are_read_to_the_field() {
    for case in cases("valid") {
        let (decoded, place) = (&case["decoded"], &case["id"]);
        let requires_metadata = decoded["feature_bits"].as_array().unwrap().contains(&Value::from(48));
        let invoice = match read(text(&case)) {
            Ok(invoice) => invoice,
            Err(LedgerRefusal::InvoiceUnsupported { .. }) if requires_metadata => continue,
            Err(refusal) => panic!("{place}: {refusal:?}"),
        };
        assert!(!requires_metadata, "{place}");
        check(&invoice, decoded, &place.to_string());
    }
}

fn check(invoice: &Read, decoded: &Value, place: &str) {
    let hex = |bytes: &[u8]| Value::from(hex::encode(bytes));
    let network = match decoded["currency"].as_str().unwrap() {
        "bc" => Network::Bitcoin,
        "tb" => Network::Testnet,
        other => panic!("{place}: {other}"),
    };
    assert_eq!(invoice.network, network, "{place}");
    assert_eq!(invoice.amount_msat.map(Msat::to_u64), decoded["amount_msat"].as_u64(), "{place}");
    assert_eq!(hex(&invoice.payment_hash.to_bytes()), decoded["payment_hash"], "{place}");
    assert_eq!(hex(&invoice.payment_secret), decoded["payment_secret"], "{place}");
    if let Some(payee) = decoded["recovered_node_id"].as_str() {
        assert_eq!(hex(invoice.payee.as_bytes()), payee, "{place}");
    }
    assert_eq!(invoice.description, decoded["description"].as_str().unwrap_or_default(), "{place}");
    let description_hash = decoded["description_hash"].as_str().map(Value::from);
    assert_eq!(invoice.description_hash.map(|hash| hex(&hash)), description_hash, "{place}");
    let created_ms = decoded["timestamp"].as_u64().unwrap() * 1_000;
    let expiry_ms = decoded["expiry_seconds"].as_u64().unwrap_or(3_600) * 1_000;
    assert_eq!((invoice.created_ms, invoice.expires_ms), (created_ms, created_ms + expiry_ms), "{place}");
    let least = decoded["min_final_cltv_expiry_delta"].as_u64().unwrap_or(18);
    assert_eq!(invoice.min_final_expiry_blocks, least, "{place}");
}

#[test]
fn vectors_of_another_network_are_refused_by_its_name_before_anything_else() {
    let mut payer = Rig::new(1);
    for case in cases("valid") {
        match payer.pay(text(&case)) {
            Err(LedgerRefusal::WrongNetwork { invoice, ours }) => {
                assert!(invoice == "bitcoin" || invoice == "testnet", "{invoice}");
                assert_eq!(ours, "regtest");
            }
            Err(LedgerRefusal::InvoiceUnsupported { .. }) => {}
            other => panic!("{}: {other:?}", case["id"]),
        }
    }
    // On its own network such an invoice expired long ago.
    payer.settings.network = Network::Bitcoin;
    let dated = cases("valid").into_iter().find(|case| case["decoded"]["expiry_seconds"] == 60).unwrap();
    assert!(matches!(payer.pay(text(&dated)), Err(LedgerRefusal::InvoiceExpired { .. })));
}

#[test]
fn invoices_with_long_descriptions_are_bounded_by_their_bytes() {
    let mut payee = Rig::new(2);
    let description = "x".repeat(limits::MAX_DESCRIPTION_BYTES);
    let make = |payee: &mut Rig, number: u32| {
        let mut salt = [0; 16];
        salt[..4].copy_from_slice(&number.to_be_bytes());
        let (amount_msat, description) = (Some(1), description.clone());
        let request = InvoiceRequest { amount_msat, description, expiry_seconds: 0, hold: false, salt };
        payee.run(|ledger, env| ledger.create_invoice(request, None, env))
    };
    let hash = make(&mut payee, 0).unwrap();
    // The rest is put in as it would be after many calls.
    let one = payee.ledger.state().invoices[&hash].clone();
    let room = limits::MAX_INVOICE_BYTES / one.text_bytes();
    for number in 1..room as u64 {
        let mut hash = [0xff; 32];
        hash[..8].copy_from_slice(&number.to_be_bytes());
        payee.ledger.state.invoices.insert(PaymentHash::from_bytes(hash), one.clone());
    }
    let limit = limits::MAX_INVOICE_BYTES;
    let full = LedgerRefusal::Full { what: "bytes of invoices not expired", limit };
    assert_eq!(make(&mut payee, 1), Err(full));
}
