//! What can be wrong with a configuration. Every variant names the key, what was found and what is expected.

use std::path::PathBuf;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Default,
    File(PathBuf),
    Variable(String),
    Flag(String),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Default => f.write_str("the defaults"),
            Source::File(path) => write!(f, "the file {}", path.display()),
            Source::Variable(name) => write!(f, "the variable {name}"),
            Source::Flag(name) => write!(f, "the flag {name}"),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{source_of}: {key} is {found}, expected {expected}")]
    WrongValue { source_of: Source, key: String, found: String, expected: String },
    #[error("{source_of}: there is no key {key}{}", hint(nearest))]
    UnknownKey { source_of: Source, key: String, nearest: Option<&'static str> },
    #[error("the flag --set takes KEY=VALUE, found {found:?}")]
    WrongAssignment { found: String },
    #[error("{} cannot be read: {source}; `hubd --print-config` prints a file to start from", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{} is not TOML: {reason}", path.display())]
    NotToml { path: PathBuf, reason: String },
    #[error("{first} is {first_value}, which must not be {relation} {second}, {second_value}")]
    Contradiction {
        first: &'static str,
        first_value: String,
        relation: &'static str,
        second: &'static str,
        second_value: String,
    },
}

fn hint(nearest: &Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean {name}?"))
}
