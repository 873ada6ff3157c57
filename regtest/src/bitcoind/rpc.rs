//! A blocking JSON-RPC client for bitcoind on this machine, for tests and scripts.
//!
//! Each call has a connection of its own and the cookie is read again for each, so a client goes on working when its
//! node is restarted. Kept-alive connections would gain nothing here: a new one takes 130 us in all on loopback, while
//! bitcoind answers a kept one before it is ready to hear it again and now and then makes the next call wait 50 ms.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::limits::{CALL_WITHIN, RPC_ANSWER_BYTES};

/// Why a call gave no result.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// Nobody listens: bitcoind is not running, or not yet.
    #[error("cannot connect to bitcoind at {address}: {source}")]
    Connect {
        /// Where it was expected.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file with bitcoind's password cannot be read: bitcoind is not running, or not yet.
    #[error("cannot read bitcoind's cookie {path}: {source}", path = path.display())]
    Cookie {
        /// Where it was expected.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The connection broke, or no answer came in time.
    #[error("the call {method} to bitcoind broke off: {source}")]
    Broken {
        /// The method called.
        method: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The cookie is not this bitcoind's: another one listens there, or it has just been restarted.
    #[error("bitcoind at {address} does not accept the cookie {path}", path = path.display())]
    Unauthorized {
        /// Who refused.
        address: SocketAddr,
        /// The cookie shown.
        path: PathBuf,
    },
    /// bitcoind refused the call.
    #[error("bitcoind refused {method}: {message} (code {code})")]
    Refused {
        /// The method called.
        method: String,
        /// bitcoind's code, as in its `protocol.h`.
        code: i64,
        /// bitcoind's words.
        message: String,
    },
    /// The answer is not what JSON-RPC or the method promises.
    #[error("bitcoind's answer to {method} cannot be read: {what}")]
    Malformed {
        /// The method called.
        method: String,
        /// What was found, and what was expected.
        what: String,
    },
}

impl RpcError {
    /// bitcoind's own error code, when it answered with one.
    pub fn code(&self) -> Option<i64> {
        match self {
            RpcError::Refused { code, .. } => Some(*code),
            RpcError::Connect { .. }
            | RpcError::Cookie { .. }
            | RpcError::Broken { .. }
            | RpcError::Unauthorized { .. }
            | RpcError::Malformed { .. } => None,
        }
    }

    /// Whether a bitcoind that is just starting may answer so: not listening yet, still warming up (code -28), or its
    /// predecessor's cookie still lying there.
    pub fn is_starting(&self) -> bool {
        const IN_WARMUP: i64 = -28;
        match self {
            RpcError::Connect { .. }
            | RpcError::Cookie { .. }
            | RpcError::Unauthorized { .. }
            | RpcError::Broken { .. } => true,
            RpcError::Refused { code, .. } => *code == IN_WARMUP,
            RpcError::Malformed { .. } => false,
        }
    }
}

/// Calls one bitcoind. Cheap to clone; usable from many threads at once.
#[derive(Clone)]
pub struct Rpc {
    address: SocketAddr,
    cookie: Arc<Path>,
    call_within: Duration,
}

impl fmt::Debug for Rpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rpc({})", self.address)
    }
}

#[derive(Deserialize)]
struct Answer {
    result: Option<Value>,
    error: Option<AnswerError>,
}

#[derive(Deserialize)]
struct AnswerError {
    code: i64,
    message: String,
}

impl Rpc {
    /// A client of the bitcoind that listens at `address` and writes its cookie to `cookie_file`. Connects only when called.
    pub fn new(address: SocketAddr, cookie_file: impl Into<PathBuf>) -> Rpc {
        let cookie: PathBuf = cookie_file.into();
        Rpc { address, cookie: cookie.into(), call_within: CALL_WITHIN }
    }

    /// The same client with another limit on the time that one call may take.
    #[must_use]
    pub fn with_timeout(mut self, call_within: Duration) -> Rpc {
        self.call_within = call_within;
        self
    }

    /// Where bitcoind listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The file with user and password, written anew at each start of bitcoind.
    pub fn cookie_file(&self) -> &Path {
        &self.cookie
    }

    /// Calls any method with positional (array) or named (object) parameters.
    ///
    /// # Errors
    /// [`RpcError`].
    pub fn rpc(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        let cookie = std::fs::read_to_string(&self.cookie)
            .map_err(|source| RpcError::Cookie { path: self.cookie.to_path_buf(), source })?;
        let body = json!({ "jsonrpc": "1.0", "id": 0, "method": method, "params": params }).to_string();
        let stream = TcpStream::connect(self.address)
            .map_err(|source| RpcError::Connect { address: self.address, source })?;
        let (status, body) = exchange(stream, cookie.trim(), &body, self.call_within)
            .map_err(|source| RpcError::Broken { method: method.to_owned(), source })?;
        if status == 401 {
            return Err(RpcError::Unauthorized { address: self.address, path: self.cookie.to_path_buf() });
        }
        let malformed = |what: String| RpcError::Malformed { method: method.to_owned(), what };
        let answer: Answer = serde_json::from_slice(&body).map_err(|error| {
            let text = String::from_utf8_lossy(&body);
            malformed(format!(
                "HTTP status {status}, {error}, in {:?}",
                text.chars().take(200).collect::<String>()
            ))
        })?;
        match answer.error {
            Some(error) => {
                Err(RpcError::Refused { method: method.to_owned(), code: error.code, message: error.message })
            }
            // A method without a result answers null.
            None => Ok(answer.result.unwrap_or(Value::Null)),
        }
    }

    /// Calls a method and reads its result as a `T`.
    ///
    /// # Errors
    /// [`RpcError`]; [`RpcError::Malformed`] when the result is no `T`.
    pub fn call<T: DeserializeOwned>(&self, method: &str, params: Value) -> Result<T, RpcError> {
        let result = self.rpc(method, params)?;
        serde_json::from_value(result)
            .map_err(|error| RpcError::Malformed { method: method.to_owned(), what: error.to_string() })
    }
}

/// One HTTP/1.1 request and its answer: the status and the body.
fn exchange(
    mut stream: TcpStream,
    credentials: &str,
    body: &str,
    within: Duration,
) -> io::Result<(u16, Vec<u8>)> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(within))?;
    stream.set_write_timeout(Some(within))?;
    let request = format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        base64(credentials.as_bytes()),
        body.len(),
    );
    stream.write_all(request.as_bytes())?;
    // The end of the connection is not waited for: bitcoind closes it up to 50 ms after the answer.
    read_answer(BufReader::new(stream))
}

fn read_answer(mut stream: impl BufRead) -> io::Result<(u16, Vec<u8>)> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut line = String::new();
    stream.read_line(&mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| invalid("no HTTP status line"))?;
    let mut length: Option<u64> = None;
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let header = line.trim_end();
        if header.is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok();
        }
    }
    let length = length.ok_or_else(|| invalid("an HTTP answer without Content-Length"))?;
    if length > RPC_ANSWER_BYTES {
        return Err(invalid("an HTTP answer longer than the limit"));
    }
    let mut body = Vec::new();
    stream.take(length).read_to_end(&mut body)?;
    if u64::try_from(body.len()) != Ok(length) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((status, body))
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = word >> (18 - 6 * place) & 63;
            text.push(if place > chunk.len() { '=' } else { char::from(ALPHABET[digit as usize]) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_follows_the_test_vectors_of_rfc_4648() {
        let rows = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, encoded) in rows {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }

    #[test]
    fn an_answer_is_read_up_to_its_length_and_no_further() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nConnection: close\r\n\r\nbodyjunk";
        assert_eq!(read_answer(&answer[..]).unwrap(), (200, b"body".to_vec()));
    }

    #[test]
    fn an_answer_cut_short_is_an_error() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody";
        for length in 0..whole.len() {
            assert!(read_answer(&whole[..length]).is_err(), "cut after {length} bytes");
        }
        assert!(read_answer(&whole[..]).is_ok());
    }

    #[test]
    fn an_absurd_length_is_refused_before_anything_is_read() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n";
        assert_eq!(read_answer(&answer[..]).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_call_to_nobody_says_where_nobody_was() {
        let folder = tempfile::tempdir().unwrap();
        let cookie = folder.path().join("cookie");
        std::fs::write(&cookie, "user:password").unwrap();
        // Bound and never listening again once dropped: nobody answers there.
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = Rpc::new(address, cookie).rpc("getblockcount", json!([])).unwrap_err();
        assert!(matches!(error, RpcError::Connect { .. }), "{error}");
        assert!(error.to_string().contains(&address.to_string()));
        assert!(error.is_starting());
    }
}
