//! Pages of lists: sizes and tokens.

use proto::error::{ErrorCode, ErrorDetail, detail, from_detail};
pub use proto::page::rows;
use tonic::Status;

/// The bytes in a token; `None` for the first page.
pub fn token<const N: usize>(text: &str) -> Result<Option<[u8; N]>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || {
        let text = "the page_token is not the next_page_token of an earlier answer to the same call";
        let wrong = ErrorDetail { field: "page_token".into(), ..detail(ErrorCode::BadPageToken, text) };
        from_detail(wrong)
    };
    let mut bytes = [0u8; N];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| wrong())?;
    Ok(Some(bytes))
}

/// The token that leads on from these bytes.
pub fn next(bytes: Option<&[u8]>) -> String {
    bytes.map_or_else(String::new, hex::encode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_checked_by_name() {
        assert_eq!(token::<2>("").unwrap(), None);
        assert_eq!(token::<2>(&next(Some(&[1, 2]))).unwrap(), Some([1, 2]));
        for wrong in ["01", "010203", "zz00"] {
            let refused = token::<2>(wrong).unwrap_err();
            assert_eq!(proto::error::parse(&refused).unwrap().code(), ErrorCode::BadPageToken);
        }
    }
}
