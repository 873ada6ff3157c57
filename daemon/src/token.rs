//! The bearer token of a service: 32 random bytes in hex, in a file only its owner can read.

use std::path::Path;

use rand::RngCore;

use crate::Program;
use crate::data_dir::{FolderError, read_secret, write_secret};

/// The token that opens the service.
#[derive(Clone)]
pub struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// Reads the token from its file, or makes one on the first start.
    pub fn load_or_create(path: &Path, program: &Program) -> Result<Token, FolderError> {
        if let Some(token) = Token::load(path, program)? {
            return Ok(token);
        }
        let mut bytes = [0u8; 32];
        rand::rngs::OsRng.fill_bytes(&mut bytes);
        let token = Token(hex::encode(bytes));
        write_secret(path, format!("{}\n", token.0).as_bytes())?;
        Ok(token)
    }

    /// Reads the token; `None` when there is no file.
    pub fn load(path: &Path, program: &Program) -> Result<Option<Token>, FolderError> {
        let Some(bytes) = read_secret(path)? else { return Ok(None) };
        let text = String::from_utf8_lossy(&bytes).trim().to_owned();
        let well_formed = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !well_formed {
            let expected =
                format!("64 hexadecimal digits; remove the file and restart {} for a new one", program.name);
            return Err(FolderError::Malformed {
                path: path.to_owned(),
                found: format!("{} characters", text.len()),
                expected: expected.into(),
            });
        }
        Ok(Some(Token(text)))
    }

    /// The value of the `authorization` header.
    pub fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// Whether a header carries this token. Takes as long for a wrong token as for the right one.
    pub fn opens(&self, header: &str) -> bool {
        let expected = self.header();
        let given = header.as_bytes();
        let mut difference = u8::from(expected.len() != given.len());
        for (at, byte) in expected.bytes().enumerate() {
            difference |= byte ^ given.get(at).copied().unwrap_or(0);
        }
        difference == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TESTED;

    #[test]
    fn only_the_stored_token_opens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("service.token");
        let token = Token::load_or_create(&path, &TESTED).unwrap();
        let again = Token::load_or_create(&path, &TESTED).unwrap();
        assert!(token.opens(&again.header()));
        assert!(!token.opens(""));
        assert!(!token.opens("Bearer "));
        assert!(!token.opens(&format!("{}0", again.header())));
        assert!(!token.opens(&again.header().replace("Bearer", "bearer")));
    }

    #[test]
    fn a_broken_token_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("service.token");
        write_secret(&path, b"short").unwrap();
        let text = Token::load(&path, &TESTED).unwrap_err().to_string();
        assert!(text.contains("holds 5 characters, expected 64 hexadecimal digits"), "{text}");
        assert!(text.ends_with("restart testd for a new one"), "{text}");
    }
}
