//! Error details travel in a gRPC status and come back; request ids carry their time.

use proto::error::{self, ErrorCode, ErrorDetail};
use proto::request_id::{RequestId, RequestIdError};
use tonic::Code;

#[test]
fn a_detail_comes_back_out_of_its_status() {
    let detail = ErrorDetail {
        field: "amount_sat".into(),
        advice: "ask for less".into(),
        ..error::detail(ErrorCode::AgainstPolicy, "too much")
    };
    let status = error::from_detail(detail.clone());
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(status.message(), "too much");
    assert_eq!(error::parse(&status), Some(detail));
    assert_eq!(error::parse(&tonic::Status::internal("nothing in it")), None);
}

#[test]
fn every_code_but_unspecified_has_a_grpc_code_of_its_own_kind() {
    for number in 1..=40 {
        let code = ErrorCode::try_from(number).expect("the enum has no gap");
        assert!(!matches!(error::grpc_code(code), Code::Ok | Code::Unknown), "{code:?}");
    }
    assert!(ErrorCode::try_from(41).is_err(), "a new code belongs into this test");
}

#[test]
fn a_request_id_is_read_as_it_is_written_and_tells_its_time() {
    let id = RequestId::new(1_700_000_000_123, [0xff; 10]);
    assert_eq!(id.time_ms(), 1_700_000_000_123);
    assert_eq!(RequestId::parse(&id.to_string()), Ok(id));
    assert_eq!(RequestId::parse(&id.to_string().replace('-', "")), Ok(id));
    assert_eq!(id.to_string().len(), 36);
}

#[test]
fn request_ids_of_another_form_are_refused() {
    let four = "018f3b6e-8f4a-4c3d-9b1a-0242ac120002";
    for text in ["", "7", four, &"7".repeat(31), &"7".repeat(33), &"é".repeat(16), &"7".repeat(36)] {
        assert_eq!(RequestId::parse(text), Err(RequestIdError::Malformed), "{text}");
    }
}

#[test]
fn request_ids_too_old_or_ahead_are_refused() {
    const DAY: u64 = 24 * 60 * 60 * 1000;
    let id = RequestId::new(10 * DAY, [1; 10]);
    assert_eq!(id.check_age(10 * DAY), Ok(()));
    assert_eq!(id.check_age(11 * DAY), Ok(()));
    assert_eq!(id.check_age(11 * DAY + 1), Err(RequestIdError::TooOld { age_ms: DAY + 1, limit_ms: DAY }));
    assert_eq!(id.check_age(9 * DAY), Err(RequestIdError::InFuture { ahead_ms: DAY }));
}
