//! Reads the layers in order: defaults, file, variables, flags.

use std::path::PathBuf;

use toml::Value;

use super::Config;
use super::error::{ConfigError, Source};
use super::keys::{Key, empty, keys, variable_name};
use super::value::from_plain;

/// Where values may come from, besides the defaults.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// A file that must exist, or one that is read if it exists.
    pub file: Option<PathBuf>,
    pub file_if_present: Option<PathBuf>,
    /// Environment: names and values; only `HUBD_*` names of keys are looked at.
    pub variables: Vec<(String, String)>,
    /// Name of the flag as typed, key, value.
    pub flags: Vec<(String, String, String)>,
}

/// The configuration all layers together give, or the first thing that is wrong with them.
pub fn load(layers: &Layers) -> Result<Config, ConfigError> {
    let mut config = empty();
    for key in keys() {
        set(&mut config, key, &from_plain(key.default), Source::Default)?;
    }
    if let Some((path, text)) = read_file(layers)? {
        set_from_file(&mut config, &path, &text)?;
    }
    for key in keys() {
        let name = variable_name(key.name);
        if let Some((_, text)) = layers.variables.iter().find(|(variable, _)| *variable == name) {
            set(&mut config, key, &from_plain(text), Source::Variable(name))?;
        }
    }
    for (flag, name, text) in &layers.flags {
        let source = Source::Flag(flag.clone());
        let key = find(name).ok_or_else(|| unknown(source.clone(), name))?;
        set(&mut config, key, &from_plain(text), source)?;
    }
    check_together(&config)?;
    Ok(config)
}

fn read_file(layers: &Layers) -> Result<Option<(PathBuf, String)>, ConfigError> {
    let (path, must_exist) = match (&layers.file, &layers.file_if_present) {
        (Some(path), _) => (path, true),
        (None, Some(path)) => (path, false),
        (None, None) => return Ok(None),
    };
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some((path.clone(), text))),
        Err(error) if !must_exist && error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ConfigError::Unreadable { path: path.clone(), source }),
    }
}

fn set_from_file(config: &mut Config, path: &std::path::Path, text: &str) -> Result<(), ConfigError> {
    let table: toml::Table = toml::from_str(text)
        .map_err(|error| ConfigError::NotToml { path: path.to_owned(), reason: error.to_string() })?;
    let source = Source::File(path.to_owned());
    for (name, value) in table {
        match value {
            Value::Table(section) => {
                for (inner, value) in section {
                    set_named(config, &format!("{name}.{inner}"), &value, &source)?;
                }
            }
            value => set_named(config, &name, &value, &source)?,
        }
    }
    Ok(())
}

fn set_named(config: &mut Config, name: &str, value: &Value, source: &Source) -> Result<(), ConfigError> {
    let key = find(name).ok_or_else(|| unknown(source.clone(), name))?;
    set(config, key, value, source.clone())
}

fn set(config: &mut Config, key: &Key, value: &Value, source_of: Source) -> Result<(), ConfigError> {
    (key.set)(config, value).map_err(|expected| ConfigError::WrongValue {
        source_of,
        key: key.name.to_owned(),
        found: value.to_string(),
        expected,
    })
}

fn find(name: &str) -> Option<&'static Key> {
    keys().iter().find(|key| key.name == name)
}

fn unknown(source_of: Source, name: &str) -> ConfigError {
    let nearest = keys()
        .iter()
        .map(|key| (distance(key.name, name), key.name))
        .min()
        .filter(|(distance, _)| *distance <= 3)
        .map(|(_, name)| name);
    ConfigError::UnknownKey { source_of, key: name.to_owned(), nearest }
}

/// Levenshtein distance, for hints.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

/// Rules that need two keys.
fn check_together(config: &Config) -> Result<(), ConfigError> {
    let policy = &config.policy;
    let pairs = [
        (
            "policy.min_capacity_sat",
            policy.min_capacity_sat,
            "policy.max_capacity_sat",
            policy.max_capacity_sat,
        ),
        (
            "policy.min_cltv_expiry_ahead",
            u64::from(policy.min_cltv_expiry_ahead),
            "policy.max_cltv_expiry_delta",
            u64::from(policy.max_cltv_expiry_delta),
        ),
        (
            "policy.cltv_expiry_delta",
            u64::from(policy.cltv_expiry_delta),
            "policy.max_cltv_expiry_delta",
            u64::from(policy.max_cltv_expiry_delta),
        ),
        (
            "settlement.feerate_floor_sat_per_vb",
            config.settlement.feerate_floor_sat_per_vb,
            "settlement.feerate_ceiling_sat_per_vb",
            config.settlement.feerate_ceiling_sat_per_vb,
        ),
        (
            "inbound.max_channel_sat",
            config.inbound.max_channel_sat,
            "policy.max_capacity_sat",
            policy.max_capacity_sat,
        ),
    ];
    for (first, low, second, high) in pairs {
        if low > high {
            return Err(ConfigError::Contradiction {
                first,
                first_value: low.to_string(),
                relation: "above",
                second,
                second_value: high.to_string(),
            });
        }
    }
    Ok(())
}
