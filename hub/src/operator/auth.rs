//! Every call of the operator's service carries the token.

use daemon::token::Token;
use proto::error::{ErrorCode, status_with_advice};
use tonic::service::Interceptor;
use tonic::{Request, Status};

/// Lets only calls with the token through.
#[derive(Debug, Clone)]
pub struct RequireToken(pub Token);

impl Interceptor for RequireToken {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let header = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        match header {
            Some(header) if self.0.opens(header) => Ok(request),
            Some(_) => Err(refused("the token is wrong")),
            None => Err(refused("the token is missing")),
        }
    }
}

fn refused(text: &str) -> Status {
    let advice = "send the metadata `authorization: Bearer <token>` with the text of operator.token in the data folder";
    status_with_advice(ErrorCode::BadToken, text, advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_opens_the_service() {
        let folder = tempfile::tempdir().unwrap();
        let token = Token::load_or_create(&folder.path().join("token"), &crate::data_dir::PROGRAM).unwrap();
        let mut gate = RequireToken(token.clone());
        let with = |header: Option<&str>| {
            let mut request = Request::new(());
            if let Some(header) = header {
                request.metadata_mut().insert("authorization", header.parse().unwrap());
            }
            request
        };
        assert!(gate.call(with(Some(&token.header()))).is_ok());
        for wrong in [None, Some("Bearer 00"), Some("")] {
            let refused = gate.call(with(wrong)).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::Unauthenticated);
            assert_eq!(proto::error::parse(&refused).unwrap().code(), ErrorCode::BadToken);
        }
    }
}
