//! Payments and streams that go on over restarts of hub and wallets, as a careful script would do it.

use proto::error::ErrorCode;
use proto::hub::v1::FailureReason;
use proto::wallet::v1 as pb;

use super::error::LabError;
use super::wallet::Wallet;
use crate::limits::{BETWEEN_TRIES, PAY_TRIES, SETTLE_WITHIN};
use crate::wait::{Look, until_seen};

/// A payment that settled.
#[derive(Debug, Clone)]
pub struct Settled {
    /// What the wallet says about it.
    pub payment: pb::Payment,
    /// Tries before that failed because hub, wallet or recipient were away.
    pub retries: u32,
}

/// Pays an invoice; tries again when hub, payer or payee were just restarted. The same call after a broken connection carries
/// the same request id, so nothing is paid twice.
///
/// # Errors
/// [`LabError::Broken`] when the payment fails for another reason; [`LabError`].
pub async fn pay_until_settled(wallet: &Wallet, invoice: &str) -> Result<Settled, LabError> {
    let mut request_id = super::request_id();
    for retries in 0..PAY_TRIES {
        let request = pb::PayRequest {
            invoice: invoice.to_owned(),
            amount_msat: None,
            max_fee_msat: None,
            request_id: request_id.to_string(),
        };
        let error = match wallet.client()?.pay(request).await {
            Ok(answer) => {
                let payment = wallet.payment(answer.into_inner())?;
                return Ok(Settled { payment, retries });
            }
            Err(status) => wallet.refused("Pay")(status),
        };
        match (error.failure(), error.code()) {
            (Some(reason), _) if passes(reason) => request_id = super::request_id(),
            (Some(_), _) => return Err(LabError::Broken(error.to_string())),
            // Refused by name: nothing was begun under this id, and refusals are not remembered.
            (None, Some(_)) if is_passing(&error) => request_id = super::request_id(),
            // The connection broke; the same id gets the answer.
            (None, None) if is_passing(&error) => (),
            (None, _) => return Err(error),
        }
        is_back(wallet).await?;
    }
    Err(LabError::Broken(format!("a payment of {} failed {PAY_TRIES} times", wallet.name())))
}

/// Streams, and follows the progress to the end; `seen` gets each step. When the wallet itself restarts meanwhile, the same
/// call follows the stream that the first began.
///
/// # Errors
/// [`LabError`]; how the stream ended is in the progress.
pub async fn stream_to_its_end(
    wallet: &Wallet,
    mut terms: pb::StartStreamRequest,
    mut seen: impl FnMut(&pb::StreamProgress),
) -> Result<pb::StreamProgress, LabError> {
    terms.request_id = super::request_id().to_string();
    for _ in 0..PAY_TRIES {
        let error = match wallet.stream(terms.clone()).await {
            Ok(mut progress) => {
                let mut last = None;
                let broken = loop {
                    match progress.message().await {
                        Ok(Some(step)) => {
                            seen(&step);
                            last = Some(step);
                        }
                        Ok(None) => break None,
                        Err(status) => break Some(status),
                    }
                };
                match (broken, last) {
                    (None, Some(last)) => return Ok(last),
                    (None, None) => {
                        let what = "a stream without any progress".to_owned();
                        return Err(LabError::Nonsense { name: wallet.name().to_owned(), what });
                    }
                    (Some(status), _) => wallet.refused("StartStream")(status),
                }
            }
            Err(error) => error,
        };
        if !is_passing(&error) {
            return Err(error);
        }
        is_back(wallet).await?;
    }
    Err(LabError::Broken(format!("a stream of {} broke {PAY_TRIES} times", wallet.name())))
}

/// Whether a refused call may succeed a little later: somebody is away, or the daemon itself just died.
fn is_passing(error: &LabError) -> bool {
    match error.code() {
        Some(code) => matches!(
            code,
            ErrorCode::HubOffline
                | ErrorCode::NoChannel
                | ErrorCode::Stopping
                | ErrorCode::StillUnderWay
                | ErrorCode::ChainUnavailable
                | ErrorCode::LimitReached
        ),
        // No detail of ours: the connection broke.
        None => error.status().is_some_and(|status| {
            matches!(status.code(), tonic::Code::Unavailable | tonic::Code::Unknown | tonic::Code::Cancelled)
        }),
    }
}

/// Whether a payment that failed so may succeed a little later.
fn passes(failure: FailureReason) -> bool {
    match failure {
        FailureReason::RecipientOffline
        | FailureReason::ChannelUnavailable
        | FailureReason::TooManyHtlcs
        | FailureReason::Overloaded
        | FailureReason::TimedOut => true,
        FailureReason::Unspecified
        | FailureReason::UnknownRecipient
        | FailureReason::NoLiquidity
        | FailureReason::FeeTooLow
        | FailureReason::ExpiryTooSoon
        | FailureReason::ExpiryTooFar
        | FailureReason::AmountOutOfRange
        | FailureReason::IncorrectPaymentDetails
        | FailureReason::AlreadyPaid
        | FailureReason::InvoiceExpired
        | FailureReason::StreamRefused => false,
    }
}

/// Waits until the wallet answers again, is connected, and can use its channels.
async fn is_back(wallet: &Wallet) -> Result<(), LabError> {
    tokio::time::sleep(BETWEEN_TRIES).await;
    until_seen(&format!("the return of {}", wallet.name()), SETTLE_WITHIN, async || {
        let info = match wallet.info().await {
            Ok(info) => info,
            Err(error) => return Ok(Look::NotYet(error.to_string())),
        };
        if !info.hub_connected {
            return Ok(Look::NotYet(info.trouble));
        }
        let channels = wallet.channels().await?;
        Ok(match channels.iter().any(|channel| channel.usable) {
            true => Look::Seen(()),
            false => Look::NotYet(super::describe(&channels)),
        })
    })
    .await
}
