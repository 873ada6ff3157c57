//! Invoices: making them, reading them.

use std::time::Duration;

use bitcoin::hashes::{Hash, sha256};
use channel::amount::Msat;
use channel::keys::Point;
use channel::message::PaymentHash;
use lightning_invoice::{
    Bolt11Invoice, Bolt11InvoiceDescriptionRef, Bolt11SemanticError, Currency, InvoiceBuilder,
    ParseOrSemanticError, PaymentSecret, RouteHint, RouteHintHop, RoutingFees,
};

use super::entry::Entry;
use super::requests::Asked;
use super::secrets::{Salt, invoice_preimage, invoice_secret};
use super::state::{HoldState, Invoice, Made};
use super::{Env, Ledger, LedgerRefusal};
use crate::limits;

/// What a user asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvoiceRequest {
    /// None: the payer chooses.
    pub amount_msat: Option<u64>,
    pub description: String,
    /// 0: the default.
    pub expiry_seconds: u32,
    /// What pays it waits for [`Ledger::settle_invoice`] or [`Ledger::cancel_invoice`].
    pub hold: bool,
    /// Fresh.
    pub salt: Salt,
}

impl Ledger {
    /// Makes an invoice, signed with the node's key, with the hub as route hint. Its payment hash.
    pub fn create_invoice(
        &mut self,
        request: InvoiceRequest,
        asked: Option<&Asked>,
        env: &Env<'_>,
    ) -> Result<PaymentHash, LedgerRefusal> {
        self.now_ms = env.now_ms;
        if let Some(Made::Invoice(payment_hash)) = self.repeated(asked)? {
            return Ok(payment_hash);
        }
        let amount_msat = match request.amount_msat {
            None => None,
            Some(0) => return Err(LedgerRefusal::ZeroAmount),
            Some(msat) => Some(Msat::new(msat).ok_or(LedgerRefusal::AmountTooLarge)?),
        };
        let (got, limit) = (request.description.len(), limits::MAX_DESCRIPTION_BYTES);
        if got > limit {
            return Err(LedgerRefusal::DescriptionTooLong { got, limit });
        }
        let expiry_seconds = match request.expiry_seconds {
            0 => limits::DEFAULT_INVOICE_EXPIRY_SECONDS,
            got if got <= limits::MAX_INVOICE_EXPIRY_SECONDS => got,
            got => {
                let limit = limits::MAX_INVOICE_EXPIRY_SECONDS;
                return Err(LedgerRefusal::ExpiryOutOfRange { got, limit });
            }
        };
        if self.state.invoices.len() >= limits::MAX_INVOICES {
            return Err(LedgerRefusal::Full { what: "invoices not expired", limit: limits::MAX_INVOICES });
        }
        let payment_hash = invoice_preimage(self.signer.as_ref(), &request.salt).payment_hash();
        // The invoice counts in seconds: what it says and what we keep must agree.
        let created_ms = env.now_ms - env.now_ms % 1_000;
        let mut invoice = Invoice {
            salt: request.salt,
            amount_msat,
            description: request.description,
            created_ms,
            expires_ms: created_ms.saturating_add(u64::from(expiry_seconds) * 1_000),
            text: String::new(),
            paid: None,
            hold: request.hold.then_some(HoldState::Undecided),
        };
        invoice.text = self.write_invoice(&invoice, payment_hash, expiry_seconds, env)?;
        let kept: usize = self.state.invoices.values().map(Invoice::text_bytes).sum();
        if kept + invoice.text_bytes() > limits::MAX_INVOICE_BYTES {
            let limit = limits::MAX_INVOICE_BYTES;
            return Err(LedgerRefusal::Full { what: "bytes of invoices not expired", limit });
        }
        self.record(&Entry::InvoiceMade { payment_hash, invoice: Box::new(invoice) });
        self.note(asked, Made::Invoice(payment_hash));
        Ok(payment_hash)
    }

    fn write_invoice(
        &self,
        invoice: &Invoice,
        payment_hash: PaymentHash,
        expiry_seconds: u32,
        env: &Env<'_>,
    ) -> Result<String, LedgerRefusal> {
        let prices = env.prices.ok_or(LedgerRefusal::HubUnknown)?;
        let malformed = |why: String| LedgerRefusal::InvoiceMalformed { why };
        let hint = RouteHint(vec![RouteHintHop {
            src_node_id: env.hub.parse().map_err(|_| LedgerRefusal::HubUnknown)?,
            // Channels with the hub have no number in the graph: only the hub is asked, and it goes by node key.
            short_channel_id: 0,
            fees: RoutingFees {
                base_msat: u32::try_from(prices.fee_base_msat).unwrap_or(u32::MAX),
                proportional_millionths: prices.fee_ppm,
            },
            cltv_expiry_delta: u16::try_from(prices.cltv_expiry_delta).unwrap_or(u16::MAX),
            htlc_minimum_msat: Some(prices.htlc_minimum_msat.to_u64()),
            htlc_maximum_msat: None,
        }]);
        let hash = sha256::Hash::from_byte_array(payment_hash.to_bytes());
        let secret = PaymentSecret(invoice_secret(self.signer.as_ref(), &invoice.salt));
        let window = if invoice.hold.is_some() { limits::HOLD_WINDOW_BLOCKS } else { 0 };
        let final_expiry = env.settings.min_final_expiry_blocks.saturating_add(window);
        let mut builder = InvoiceBuilder::new(currency(env.settings.network))
            .description(invoice.description.clone())
            .payment_hash(hash)
            .payment_secret(secret)
            .duration_since_epoch(Duration::from_millis(invoice.created_ms))
            .expiry_time(Duration::from_secs(expiry_seconds.into()))
            .min_final_cltv_expiry_delta(final_expiry.into())
            .private_route(hint);
        if let Some(amount) = invoice.amount_msat {
            builder = builder.amount_milli_satoshis(amount.to_u64());
        }
        let raw = builder.build_raw().map_err(|error| malformed(error.to_string()))?;
        let signed = raw
            .sign(|hash| Ok::<_, std::convert::Infallible>(self.signer.sign_invoice(hash)))
            .unwrap_or_else(|never| match never {});
        let invoice = Bolt11Invoice::from_signed(signed).map_err(|error| malformed(error.to_string()))?;
        Ok(invoice.to_string())
    }
}

fn currency(network: bitcoin::Network) -> Currency {
    Currency::from(network)
}

/// What an invoice says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub payee: Point,
    pub network: bitcoin::Network,
    pub amount_msat: Option<Msat>,
    pub payment_hash: PaymentHash,
    pub payment_secret: [u8; 32],
    pub description: String,
    pub description_hash: Option<[u8; 32]>,
    pub created_ms: u64,
    pub expires_ms: u64,
    pub min_final_expiry_blocks: u64,
    /// The last hops of its route hints.
    pub hints: Vec<Point>,
}

/// Reads an invoice and checks its signature. Amounts that are no whole number of msat, unknown required features and a
/// missing payment secret are refused (BOLT 11).
pub fn read(text: &str) -> Result<Read, LedgerRefusal> {
    let text = text.trim();
    let text = text.strip_prefix("lightning:").or_else(|| text.strip_prefix("LIGHTNING:")).unwrap_or(text);
    let invoice: Bolt11Invoice = text.parse().map_err(refusal)?;
    // What this wallet seals for the payee has no room for it, and the payee would refuse the payment without.
    if invoice.features().is_some_and(|features| features.requires_payment_metadata()) {
        return Err(LedgerRefusal::InvoiceUnsupported { why: "payment metadata is required".to_owned() });
    }
    let amount_msat = match invoice.amount_milli_satoshis() {
        None => None,
        Some(msat) => Some(Msat::new(msat).ok_or(LedgerRefusal::AmountTooLarge)?),
    };
    let (description, description_hash) = match invoice.description() {
        Bolt11InvoiceDescriptionRef::Direct(text) => (text.to_string(), None),
        Bolt11InvoiceDescriptionRef::Hash(hash) => (String::new(), Some(hash.0.to_byte_array())),
    };
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let created_ms = millis(invoice.duration_since_epoch());
    Ok(Read {
        payee: Point::from(invoice.get_payee_pub_key()),
        network: invoice.network(),
        amount_msat,
        payment_hash: PaymentHash::from_bytes(invoice.payment_hash().to_byte_array()),
        payment_secret: invoice.payment_secret().0,
        description,
        description_hash,
        created_ms,
        expires_ms: created_ms.saturating_add(millis(invoice.expiry_time())),
        min_final_expiry_blocks: invoice.min_final_cltv_expiry_delta(),
        hints: invoice
            .route_hints()
            .iter()
            .filter_map(|hint| hint.0.last())
            .map(|hop| Point::from(hop.src_node_id))
            .collect(),
    })
}

fn refusal(error: ParseOrSemanticError) -> LedgerRefusal {
    match &error {
        ParseOrSemanticError::SemanticError(Bolt11SemanticError::InvalidFeatures) => {
            LedgerRefusal::InvoiceUnsupported { why: error.to_string() }
        }
        ParseOrSemanticError::SemanticError(_) | ParseOrSemanticError::ParseError(_) => {
            LedgerRefusal::InvoiceMalformed { why: error.to_string() }
        }
    }
}
