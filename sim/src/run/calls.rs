//! What people asked and wait for: calls into processes, and what their answers mean to the auditor.

use bitcoin::Amount;
use proto::hub::v1 as hub_pb;
use proto::wallet::v1 as pb;
use tonic::{Response, Status};

use crate::audit::{Books, Broken, Word};
use crate::process::{Call, Lost};

/// The answer to a call.
type Answered<T> = Call<Result<Response<T>, Status>>;

/// Something that was asked of a wallet.
pub enum Asked {
    Address {
        amount: Amount,
        call: Answered<pb::NewAddressResponse>,
    },
    Invoice {
        payer: usize,
        hold: Hold,
        request: pb::CreateInvoiceRequest,
        call: Answered<pb::CreateInvoiceResponse>,
    },
    Pay {
        call: Answered<pb::PayResponse>,
    },
    Open {
        call: Answered<pb::OpenChannelResponse>,
    },
    Inbound {
        call: Answered<pb::RequestInboundResponse>,
    },
    Channels {
        then: WithChannels,
        call: Answered<pb::ListChannelsResponse>,
    },
    Close {
        call: Answered<pb::CloseChannelResponse>,
    },
    Decide {
        call: Decided,
    },
    Stream {
        call: Call<Result<(), Status>>,
    },
    /// A look at all channels, which leads to nothing.
    Look {
        call: Answered<pb::ListChannelsResponse>,
    },
}

/// The answer to settling or cancelling a held payment.
pub enum Decided {
    Settle(Answered<pb::SettleInvoiceResponse>),
    Cancel(Answered<pb::CancelInvoiceResponse>),
}

/// What is done with the list of channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithChannels {
    /// One of them is closed with the hub's help.
    Close,
    /// One of them is closed without.
    Force,
}

/// What a payee does with a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Takes it at once.
    No,
    /// Decides later.
    Yes,
}

/// What an answer leads to.
pub enum Next {
    /// There is no answer yet.
    Wait(Asked),
    /// Nothing.
    Done,
    /// Somebody pays this on the chain.
    Fund {
        address: String,
        amount: Amount,
    },
    /// Somebody pays this invoice.
    Pay {
        payer: usize,
        invoice: String,
    },
    /// The payee decides about this payment later.
    Held {
        payment_hash: Vec<u8>,
    },
    /// There is an invoice.
    Given {
        request: pb::CreateInvoiceRequest,
        payment_hash: Vec<u8>,
        /// Whoever pays it before then is not told that there is none. Who holds payments may refuse them.
        until_ms: Option<u64>,
    },
    /// A channel begins, and will be remembered.
    Opened {
        channel_id: Vec<u8>,
    },
    /// These are its channels.
    Seen {
        channels: Vec<hub_pb::Channel>,
    },
    /// A channel is closed.
    Close {
        channel: Box<hub_pb::Channel>,
        then: WithChannels,
    },
    Several(Vec<Next>),
}

impl Asked {
    /// Looks whether there is an answer; what it promises goes into the books. `pick` draws an index below a length.
    pub fn look(
        self,
        wallet: usize,
        books: &mut Books,
        pick: &mut dyn FnMut(usize) -> usize,
    ) -> Result<Next, Broken> {
        match self {
            Asked::Address { amount, mut call } => Ok(match told(call.answer()) {
                None => Next::Wait(Asked::Address { amount, call }),
                Some(None) => Next::Done,
                Some(Some(answer)) => Next::Fund { address: answer.address, amount },
            }),
            Asked::Invoice { payer, hold, request, mut call } => Ok(match told(call.answer()) {
                None => Next::Wait(Asked::Invoice { payer, hold, request, call }),
                Some(None) => Next::Done,
                Some(Some(answer)) => {
                    let payment_hash = answer.payment_hash.to_vec();
                    let pay = Next::Pay { payer, invoice: answer.invoice };
                    let (then, until_ms) = match hold {
                        Hold::No => (vec![pay], Some(answer.expires_at_ms)),
                        Hold::Yes => (vec![pay, Next::Held { payment_hash: payment_hash.clone() }], None),
                    };
                    let given = std::iter::once(Next::Given { request, payment_hash, until_ms });
                    Next::Several(given.chain(then).collect())
                }
            }),
            Asked::Pay { mut call } => match told(call.answer()) {
                None => Ok(Next::Wait(Asked::Pay { call })),
                Some(None) => Ok(Next::Done),
                Some(Some(answer)) => {
                    if let Some(payment) = &answer.payment {
                        note_payment(wallet, payment, books)?;
                    }
                    Ok(Next::Done)
                }
            },
            Asked::Channels { then, mut call } => Ok(match told(call.answer()) {
                None => Next::Wait(Asked::Channels { then, call }),
                Some(None) => Next::Done,
                Some(Some(answer)) if answer.channels.is_empty() => Next::Done,
                Some(Some(mut answer)) => {
                    let index = pick(answer.channels.len());
                    Next::Close { channel: Box::new(answer.channels.swap_remove(index)), then }
                }
            }),
            Asked::Open { mut call } => Ok(match told(call.answer()) {
                None => Next::Wait(Asked::Open { call }),
                Some(None) => Next::Done,
                Some(Some(answer)) => Next::Opened { channel_id: answer.channel_id.to_vec() },
            }),
            Asked::Look { mut call } => Ok(match told(call.answer()) {
                None => Next::Wait(Asked::Look { call }),
                Some(None) => Next::Done,
                Some(Some(answer)) => Next::Seen { channels: answer.channels },
            }),
            Asked::Inbound { mut call } => {
                Ok(if call.answer().is_some() { Next::Done } else { Next::Wait(Asked::Inbound { call }) })
            }
            Asked::Close { mut call } => {
                Ok(if call.answer().is_some() { Next::Done } else { Next::Wait(Asked::Close { call }) })
            }
            Asked::Stream { mut call } => {
                Ok(if call.answer().is_some() { Next::Done } else { Next::Wait(Asked::Stream { call }) })
            }
            Asked::Decide { mut call } => {
                let answered = match &mut call {
                    Decided::Settle(call) => call.answer().is_some(),
                    Decided::Cancel(call) => call.answer().is_some(),
                };
                Ok(if answered { Next::Done } else { Next::Wait(Asked::Decide { call }) })
            }
        }
    }
}

/// None: not answered. `Some(None)`: refused, or the process died first.
fn told<T>(answer: Option<Result<Result<Response<T>, Status>, Lost>>) -> Option<Option<T>> {
    Some(answer?.ok().and_then(Result::ok).map(Response::into_inner))
}

/// What a wallet says of a payment. Nothing is promised while it is in flight.
pub fn note_payment(wallet: usize, payment: &pb::Payment, books: &mut Books) -> Result<(), Broken> {
    let Ok(hash) = <[u8; 32]>::try_from(payment.payment_hash.as_ref()) else {
        return Err(Broken::new("answers are well formed", "a payment without a hash"));
    };
    let word = match payment.state() {
        pb::PaymentState::Settled => {
            Word::Settled { amount_msat: payment.amount_msat, fee_msat: payment.fee_msat }
        }
        pb::PaymentState::Failed => Word::Failed,
        pb::PaymentState::InFlight | pb::PaymentState::Unspecified => return Ok(()),
    };
    let sent = payment.direction() == pb::PaymentDirection::Sent;
    if sent && payment.failure() == hub_pb::FailureReason::IncorrectPaymentDetails {
        books.payee_denies(&hash, payment.ended_at_ms)?;
    }
    match payment.direction() {
        pb::PaymentDirection::Sent => books.payer_says(wallet, hash, word, &payment.preimage),
        pb::PaymentDirection::Received => books.payee_says(wallet, hash, word),
        pb::PaymentDirection::Unspecified => {
            Err(Broken::new("answers are well formed", "a payment without a direction"))
        }
    }
}
