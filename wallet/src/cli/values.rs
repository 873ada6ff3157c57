//! Values on the command line that have a form of their own.

use std::str::FromStr;

use bytes::Bytes;
use channel::amount::Msat;
use proto::request_id::{RequestId, RequestIdError};

use super::args::{Amount, OptionalAmount};
use super::failure::Failure;
use crate::config::Override;

/// A node key, checked to be a point of the curve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeKey(pub Bytes);

impl FromStr for NodeKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "a node key has 66 hexadecimal digits, such as 0279be66...16f81798; `hubwallet info` of the payee shows it";
        let bytes = hex::decode(text.trim()).map_err(|_| expected.to_owned())?;
        proto::fields::node_key("node_key", &bytes).map_err(|_| expected.to_owned())?;
        Ok(NodeKey(bytes.into()))
    }
}

/// A request id, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestIdText(pub RequestId);

impl FromStr for RequestIdText {
    type Err = RequestIdError;

    fn from_str(text: &str) -> Result<Self, RequestIdError> {
        RequestId::parse(text).map(RequestIdText)
    }
}

/// `section.key=value`, the value as TOML; one that is no TOML is text.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting(pub Override);

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) =
            text.split_once('=').ok_or("expected KEY=VALUE, such as channels.minimum_depth=3")?;
        let (key, value) = (key.trim(), value.trim());
        let value = toml::from_str::<toml::Table>(&format!("value = {value}"))
            .ok()
            .and_then(|mut table| table.remove("value"))
            .unwrap_or_else(|| toml::Value::String(value.to_owned()));
        Ok(Setting(Override { origin: "--set".to_owned(), key: key.to_owned(), value }))
    }
}

impl OptionalAmount {
    /// In msat, as the daemon wants it.
    ///
    /// # Errors
    /// More than there is bitcoin.
    pub fn msat(self) -> Result<Option<u64>, Failure> {
        let too_much = |flag, got: u64, most: u64| {
            Failure::usage(format!("{flag} {got} is more than there is bitcoin; at most {most} are allowed"))
        };
        let most = Msat::MAX.to_u64();
        match (self.amount_msat, self.amount_sat) {
            (Some(msat), _) if msat > most => Err(too_much("--amount-msat", msat, most)),
            (Some(msat), _) => Ok(Some(msat)),
            (None, Some(sat)) => match sat.checked_mul(1_000).filter(|msat| *msat <= most) {
                Some(msat) => Ok(Some(msat)),
                None => Err(too_much("--amount-sat", sat, most / 1_000)),
            },
            (None, None) => Ok(None),
        }
    }
}

impl Amount {
    /// In msat, as the daemon wants it.
    ///
    /// # Errors
    /// More than there is bitcoin.
    pub fn msat(self) -> Result<u64, Failure> {
        let amount = OptionalAmount { amount_msat: self.amount_msat, amount_sat: self.amount_sat }.msat()?;
        amount.ok_or_else(|| Failure::usage("give --amount-msat or --amount-sat"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_keep_the_kind_that_toml_gives_them_and_are_text_otherwise() {
        let value = |text: &str| text.parse::<Setting>().unwrap().0.value;
        assert_eq!(value("channels.minimum_depth=3"), toml::Value::Integer(3));
        assert_eq!(value("payments.accept_spontaneous = false"), toml::Value::Boolean(false));
        assert_eq!(value("log.filter=info,wallet=debug"), toml::Value::String("info,wallet=debug".into()));
        assert_eq!(value("listen=\"127.0.0.1:0\""), toml::Value::String("127.0.0.1:0".into()));
        assert!("listen".parse::<Setting>().unwrap_err().contains("KEY=VALUE"));
    }

    #[test]
    fn satoshi_become_millisatoshi_and_more_than_there_is_bitcoin_is_refused() {
        let sat = |sat| OptionalAmount { amount_msat: None, amount_sat: Some(sat) }.msat();
        assert_eq!(sat(7).unwrap(), Some(7_000));
        for wrong in [2_100_000_000_000_001, u64::MAX] {
            assert!(sat(wrong).unwrap_err().to_string().contains("at most 2100000000000000"), "{wrong}");
        }
        let msat = OptionalAmount { amount_msat: Some(u64::MAX), amount_sat: None }.msat();
        assert!(msat.unwrap_err().to_string().contains("--amount-msat"));
    }

    #[test]
    fn node_keys_are_points_of_the_curve() {
        let generator = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
        assert!(generator.parse::<NodeKey>().is_ok());
        // Larger than the field's prime.
        let outside = format!("02{}", "ff".repeat(32));
        for wrong in ["", "02", &generator[2..], &generator.replace("02", "09"), &outside, "alice"] {
            assert!(wrong.parse::<NodeKey>().is_err(), "{wrong}");
        }
    }
}
