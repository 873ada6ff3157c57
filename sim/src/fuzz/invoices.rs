//! Invoices: whatever a person pastes is read or refused.

use wallet::ledger::read_invoice;

/// `data` is text; what is no UTF-8 is replaced.
pub fn invoices(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Ok(read) = read_invoice(&text) else { return };
    assert!(read.payee.parse().is_ok(), "the signature proved this key: {read:?}");
    assert!(read.expires_ms >= read.created_ms, "{read:?}");
    assert_eq!(read_invoice(text.trim()), Ok(read));
}
