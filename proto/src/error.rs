//! gRPC errors with a machine-readable half: an [`ErrorDetail`] in the status's details, packed as `google.rpc.Status` has it,
//! so that clients in any language find it with their usual tools.

use bytes::Bytes;
use prost::Message as _;
use prost_types::Any;
use tonic::{Code, Status};

pub use crate::hub::v1::{ErrorCode, ErrorDetail};
use crate::wire_error::WireError;

/// Name of [`ErrorDetail`] inside an `Any`.
const DETAIL_TYPE: &str = "type.googleapis.com/hub.v1.ErrorDetail";

/// `google.rpc.Status`, of which only this message is needed.
#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// The gRPC code that goes with each of ours (the comments in `error.proto` say the same).
pub fn grpc_code(code: ErrorCode) -> Code {
    use ErrorCode as E;
    match code {
        E::Unspecified => Code::Unknown,
        E::MissingField
        | E::BadField
        | E::BadAmount
        | E::InvoiceMalformed
        | E::InvoiceWrongNetwork
        | E::InvoiceUnsupported
        | E::RequestIdMalformed
        | E::FrameMalformed
        | E::BadPageToken => Code::InvalidArgument,
        E::InvoiceExpired
        | E::NoChannel
        | E::InsufficientFunds
        | E::FeeAboveLimit
        | E::UnsupportedVersion
        | E::ChannelRefused
        | E::StreamRefused
        | E::InvoiceWrongState
        | E::FeerateTooLow
        | E::NotPublishable
        | E::AgainstPolicy => Code::FailedPrecondition,
        E::PaymentInFlight | E::AlreadyPaid | E::RequestIdReused => Code::AlreadyExists,
        E::RequestIdTooOld | E::EventsTooOld | E::EventsInFuture => Code::OutOfRange,
        E::NotFound => Code::NotFound,
        E::PaymentFailed | E::Superseded => Code::Aborted,
        E::HubOffline | E::ChainUnavailable | E::Stopping => Code::Unavailable,
        E::LimitReached | E::DiskNearlyFull | E::FrameTooLarge => Code::ResourceExhausted,
        E::BadToken | E::HandshakeFailed => Code::Unauthenticated,
        E::NotYourChannel => Code::PermissionDenied,
        E::StillUnderWay => Code::DeadlineExceeded,
        E::Fault => Code::Internal,
    }
}

/// Starts a detail: what was wrong and what was expected.
pub fn detail(code: ErrorCode, text: impl Into<String>) -> ErrorDetail {
    ErrorDetail { code: code.into(), text: text.into(), ..ErrorDetail::default() }
}

/// A status with a detail of this code and text.
pub fn status(code: ErrorCode, text: impl Into<String>) -> Status {
    from_detail(detail(code, text))
}

/// A status with a detail that also tells what to do next.
pub fn status_with_advice(code: ErrorCode, text: impl Into<String>, advice: impl Into<String>) -> Status {
    from_detail(ErrorDetail { advice: advice.into(), ..detail(code, text) })
}

/// The status that carries this detail.
pub fn from_detail(detail: ErrorDetail) -> Status {
    let code = grpc_code(detail.code());
    let message = detail.text.clone();
    let any = Any { type_url: DETAIL_TYPE.to_owned(), value: detail.encode_to_vec() };
    let packed = RpcStatus { code: code.into(), message: message.clone(), details: vec![any] };
    Status::with_details(code, message, Bytes::from(packed.encode_to_vec()))
}

/// The detail in a status, if it has one of ours.
pub fn parse(status: &Status) -> Option<ErrorDetail> {
    let packed = RpcStatus::decode(status.details()).ok()?;
    let any = packed.details.iter().find(|any| any.type_url == DETAIL_TYPE)?;
    ErrorDetail::decode(any.value.as_slice()).ok()
}

impl From<WireError> for ErrorDetail {
    fn from(error: WireError) -> Self {
        ErrorDetail { field: error.field().to_owned(), ..detail(error.code(), error.to_string()) }
    }
}

impl From<WireError> for Status {
    fn from(error: WireError) -> Self {
        from_detail(error.into())
    }
}
