//! Pages of lists: sizes and tokens.

use proto::error::{ErrorCode, ErrorDetail, detail, from_detail};
use proto::limits::{DEFAULT_PAGE_ROWS, MAX_PAGE_ROWS};
use tonic::Status;

/// The rows of a page, 0 standing for the usual number.
pub fn rows(asked: u32) -> Result<usize, Status> {
    let rows = if asked == 0 { DEFAULT_PAGE_ROWS } else { asked };
    if rows > MAX_PAGE_ROWS {
        let text = format!("page_size is {asked}, at most {MAX_PAGE_ROWS} are allowed");
        let wrong = ErrorDetail { field: "page_size".into(), ..detail(ErrorCode::BadField, text) };
        return Err(from_detail(wrong));
    }
    usize::try_from(rows).map_err(|_| from_detail(detail(ErrorCode::BadField, "page_size does not fit")))
}

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
    fn tokens_and_sizes_are_checked_by_name() {
        assert_eq!(rows(0).unwrap(), 100);
        assert_eq!(rows(1000).unwrap(), 1000);
        assert_eq!(proto::error::parse(&rows(1001).unwrap_err()).unwrap().field, "page_size");
        assert_eq!(token::<2>("").unwrap(), None);
        assert_eq!(token::<2>(&next(Some(&[1, 2]))).unwrap(), Some([1, 2]));
        for wrong in ["01", "010203", "zz00"] {
            let refused = token::<2>(wrong).unwrap_err();
            assert_eq!(proto::error::parse(&refused).unwrap().code(), ErrorCode::BadPageToken);
        }
    }
}
