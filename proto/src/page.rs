//! How many rows a page of a list holds: the same in every service.

use tonic::Status;

use crate::error::{ErrorCode, ErrorDetail, detail, from_detail};
use crate::limits::{DEFAULT_PAGE_ROWS, MAX_PAGE_ROWS};

/// The rows of a page, 0 standing for the usual number. More than a page may have are refused by the field's name.
pub fn rows(asked: u32) -> Result<usize, Status> {
    let rows = if asked == 0 { DEFAULT_PAGE_ROWS } else { asked };
    if rows > MAX_PAGE_ROWS {
        let text = format!("page_size is {asked}, at most {MAX_PAGE_ROWS} are allowed");
        let wrong = ErrorDetail { field: "page_size".into(), ..detail(ErrorCode::BadField, text) };
        return Err(from_detail(wrong));
    }
    usize::try_from(rows).map_err(|_| from_detail(detail(ErrorCode::BadField, "page_size does not fit")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_a_thousand_rows_at_most_and_a_hundred_if_nobody_says() {
        assert_eq!(rows(0).unwrap(), 100);
        assert_eq!(rows(1).unwrap(), 1);
        assert_eq!(rows(1_000).unwrap(), 1_000);
        let refused = crate::error::parse(&rows(1_001).unwrap_err()).unwrap();
        assert_eq!((refused.code(), refused.field.as_str()), (ErrorCode::BadField, "page_size"));
    }
}
