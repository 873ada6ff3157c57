//! From a TOML value to a checked one. Each function answers what was expected when the value does not fit.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use toml::Value;

/// What a key expects, in words, for the error.
pub type Expected = String;

/// A whole number within the range, as any unsigned type that holds it.
pub fn integer<T>(value: &Value, range: RangeInclusive<u64>) -> Result<T, Expected>
where
    T: TryFrom<u64>,
{
    let expected = || format!("a whole number from {} to {}", range.start(), range.end());
    let number = value.as_integer().and_then(|number| u64::try_from(number).ok()).ok_or_else(expected)?;
    if !range.contains(&number) {
        return Err(expected());
    }
    T::try_from(number).map_err(|_| expected())
}

pub fn boolean(value: &Value) -> Result<bool, Expected> {
    value.as_bool().ok_or_else(|| "true or false".into())
}

pub fn text(value: &Value) -> Result<String, Expected> {
    value.as_str().map(str::to_owned).ok_or_else(|| "text in quotes".into())
}

pub fn texts(value: &Value) -> Result<Vec<String>, Expected> {
    let expected = || "a list of texts, such as [\"hub.example.org\"]".to_owned();
    value
        .as_array()
        .ok_or_else(expected)?
        .iter()
        .map(|entry| entry.as_str().map(str::to_owned).ok_or_else(expected))
        .collect()
}

/// A path; a leading `~/` is the home folder.
pub fn path(value: &Value) -> Result<PathBuf, Expected> {
    let text = value.as_str().filter(|text| !text.is_empty()).ok_or("a path in quotes")?;
    match text.strip_prefix("~/") {
        Some(rest) => {
            let home = std::env::var_os("HOME").ok_or("a path without ~, since HOME is not set")?;
            Ok(PathBuf::from(home).join(rest))
        }
        None => Ok(PathBuf::from(text)),
    }
}

pub fn address(value: &Value) -> Result<SocketAddr, Expected> {
    value
        .as_str()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| "an address with a port, such as \"127.0.0.1:9735\"".into())
}

/// An address that only this machine can reach: the operator's calls travel without TLS.
pub fn loopback_address(value: &Value) -> Result<SocketAddr, Expected> {
    let expected = "a loopback address with a port, such as \"127.0.0.1:9736\"";
    address(value).ok().filter(|address| address.ip().is_loopback()).ok_or_else(|| expected.into())
}

/// Until on-chain safety is complete, only coins without value are accepted.
pub fn network(value: &Value) -> Result<bitcoin::Network, Expected> {
    match value.as_str() {
        Some("regtest") => Ok(bitcoin::Network::Regtest),
        _ => Err("\"regtest\", the only network this version runs on".into()),
    }
}

pub fn url(value: &Value) -> Result<String, Expected> {
    let expected = "a URL such as \"http://127.0.0.1:18443\"";
    value
        .as_str()
        .filter(|text| text.starts_with("http://"))
        .map(str::to_owned)
        .ok_or_else(|| expected.into())
}

/// A value given as plain text, in a variable or a flag: TOML if it is TOML, else the text itself.
pub fn from_plain(text: &str) -> Value {
    match toml::from_str::<toml::Table>(&format!("value = {text}")) {
        Ok(mut table) if table.len() == 1 => {
            table.remove("value").unwrap_or_else(|| Value::String(text.into()))
        }
        _ => Value::String(text.into()),
    }
}
