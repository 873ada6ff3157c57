//! Credentials for bitcoind. Invariant: the password never appears in `Debug`, an error or a log.

use std::fmt;
use std::path::PathBuf;

use base64::Engine as _;

use super::RpcError;

/// How we prove to bitcoind that we may call it.
#[derive(Clone)]
pub enum Auth {
    /// The `.cookie` file that bitcoind writes at each start. It is read before the first call and again
    /// whenever the credentials are refused, since a restarted node has a new one.
    Cookie(PathBuf),
    /// A fixed user and password (`rpcuser`/`rpcpassword` or `rpcauth`).
    UserPassword {
        /// User name.
        user: String,
        /// Password.
        password: String,
    },
}

impl Auth {
    /// The value of the `Authorization` header, read from disk for a cookie.
    pub(crate) fn header(&self) -> Result<String, RpcError> {
        let credentials = match self {
            Auth::Cookie(path) => std::fs::read_to_string(path)
                .map_err(|error| RpcError::NoCookie {
                    path: path.display().to_string(),
                    reason: error.to_string(),
                })?
                .trim()
                .to_owned(),
            Auth::UserPassword { user, password } => format!("{user}:{password}"),
        };
        Ok(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(credentials)))
    }

    /// Names where the credentials come from, for messages.
    pub(crate) fn source_name(&self) -> String {
        match self {
            Auth::Cookie(path) => format!("cookie file {}", path.display()),
            Auth::UserPassword { user, .. } => format!("user {user}"),
        }
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_hides_the_password() {
        let auth = Auth::UserPassword { user: "hub".into(), password: "secret".into() };
        assert_eq!(format!("{auth:?}"), "user hub");
        assert_eq!(auth.header().unwrap(), "Basic aHViOnNlY3JldA==");
    }

    #[test]
    fn a_cookie_is_read_again_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".cookie");
        let auth = Auth::Cookie(path.clone());
        assert!(matches!(auth.header(), Err(RpcError::NoCookie { .. })));
        std::fs::write(&path, "__cookie__:one\n").unwrap();
        let first = auth.header().unwrap();
        std::fs::write(&path, "__cookie__:two").unwrap();
        assert_ne!(first, auth.header().unwrap());
    }
}
