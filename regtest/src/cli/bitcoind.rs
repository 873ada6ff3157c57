//! `regtest bitcoind`

use regtest::bitcoind::locate;
use serde_json::json;

use super::Failure;

#[derive(clap::Args)]
pub struct Arguments {
    /// Print one JSON object: path, version, origin, and the candidates turned down.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let found = locate()?;
    let rejected: Vec<String> = found.rejected.iter().map(ToString::to_string).collect();
    if arguments.json {
        let version = found.version.to_string();
        let object = json!({ "path": found.path, "version": version, "origin": found.origin, "turned_down": rejected });
        println!("{object}");
    } else {
        for rejected in rejected {
            eprintln!("turned down: {rejected}");
        }
        println!("{}", found.path.display());
    }
    Ok(())
}
