//! Finds the vector files and reads their fields; anything missing or malformed fails with its name.

use std::path::{Path, PathBuf};

use bitcoin::secp256k1::{PublicKey, SecretKey};
use serde_json::Value;

enum Source {
    /// The project's own copies: all of them must be there.
    Own(PathBuf),
    /// A folder somebody named: what is there is run.
    Named(PathBuf),
}

fn source() -> Source {
    match std::env::var_os("BOLT_VECTORS") {
        Some(folder) if !folder.is_empty() => Source::Named(PathBuf::from(folder)),
        Some(_) | None => Source::Own(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")),
    }
}

/// Runs every case of a file and says how many there were.
pub fn run(file: &str, check: fn(&Json<'_>, &Json<'_>)) {
    let path = match source() {
        Source::Own(folder) => folder.join(file),
        Source::Named(folder) => {
            let path = folder.join(file);
            if folder.is_dir() && !path.exists() {
                return;
            }
            path
        }
    };
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let document: Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let document = Json { value: &document, place: file.to_string() };
    let cases = document.list("cases");
    assert!(!cases.is_empty(), "{file} has no case");
    for case in &cases {
        check(&document, case);
    }
    // A line of its own even where the harness has begun one.
    println!("\n{file}: {} cases", cases.len());
}

/// Fails when a folder holds none of the files.
pub fn expect_some_file(files: &[&str]) {
    let (Source::Own(folder) | Source::Named(folder)) = source();
    assert!(
        files.iter().any(|file| folder.join(file).is_file()),
        "{} holds none of {}",
        folder.display(),
        files.join(", ")
    );
}

/// A JSON value that knows where it stands, for messages.
#[derive(Clone)]
pub struct Json<'a> {
    value: &'a Value,
    place: String,
}

impl<'a> Json<'a> {
    pub fn place(&self) -> &str {
        &self.place
    }

    pub fn find(&self, name: &str) -> Option<Json<'a>> {
        let value = self.value.get(name)?;
        Some(Json { value, place: format!("{}: {name}", self.place) })
    }

    pub fn get(&self, name: &str) -> Json<'a> {
        self.find(name).unwrap_or_else(|| panic!("{}: no field {name}", self.place))
    }

    pub fn list(&self, name: &str) -> Vec<Json<'a>> {
        let field = self.get(name);
        let list = field.value.as_array().unwrap_or_else(|| panic!("{}: no list", field.place));
        let item = |(index, value): (usize, &'a Value)| {
            let id =
                value.get("id").and_then(Value::as_str).map_or_else(|| index.to_string(), str::to_string);
            Json { value, place: format!("{} {id}", field.place) }
        };
        list.iter().enumerate().map(item).collect()
    }

    /// The names and values of an object's whole numbers.
    pub fn numbers(&self) -> Vec<(&'a str, u64)> {
        let object = self.value.as_object().unwrap_or_else(|| panic!("{}: no object", self.place));
        object.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_u64()?))).collect()
    }

    pub fn as_text(&self) -> &'a str {
        self.value.as_str().unwrap_or_else(|| panic!("{}: no text", self.place))
    }

    pub fn as_number(&self) -> u64 {
        self.value.as_u64().unwrap_or_else(|| panic!("{}: no whole number", self.place))
    }

    pub fn text(&self, name: &str) -> &'a str {
        self.get(name).as_text()
    }

    pub fn number(&self, name: &str) -> u64 {
        self.get(name).as_number()
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        let field = self.get(name);
        hex::decode(field.as_text()).unwrap_or_else(|error| panic!("{}: {error}", field.place))
    }

    pub fn array<const N: usize>(&self, name: &str) -> [u8; N] {
        let bytes = self.bytes(name);
        bytes.try_into().unwrap_or_else(|_| panic!("{}: {name} has not {N} bytes", self.place))
    }

    pub fn secret(&self, name: &str) -> SecretKey {
        SecretKey::from_slice(&self.array::<32>(name))
            .unwrap_or_else(|error| panic!("{}: {name}: {error}", self.place))
    }

    pub fn point(&self, name: &str) -> PublicKey {
        PublicKey::from_slice(&self.array::<33>(name))
            .unwrap_or_else(|error| panic!("{}: {name}: {error}", self.place))
    }
}
