//! `init` and `restore`: a new wallet, or one restored from its words.

use std::path::{Path, PathBuf};

use channel::seed_signer::SeedSigner;
use channel::signer::Signer;
use daemon::data_dir::{FolderError, write_secret};
use daemon::seed::Seed;
use daemon::table::facts;
use serde_json::json;

use super::args::{InitArgs, Overrides, RestoreArgs};
use super::failure::{Exit, Failure, shell_word};
use super::terminal::Terminal;
use crate::config::{self, Answers};
use crate::data_dir::{DataDir, DataDirError, Layout};
use crate::seed;

/// Where the hub and bitcoind are when nothing else is said: their own defaults, on this machine.
const HUB_ADDRESS: &str = "127.0.0.1:9735";
const BITCOIND_URL: &str = "http://127.0.0.1:18443";
const BITCOIND_COOKIE: &str = "~/.bitcoin/regtest/.cookie";
const LISTEN: &str = "127.0.0.1:0";

pub fn init(args: &InitArgs, root: &Path, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let lost = args.words.as_deref().map(|words| Lost { words, birthday_height: 0 });
    make(&args.answers, lost, root, terminal)
}

pub fn restore(args: &RestoreArgs, root: &Path, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let lost = Lost { words: &args.words, birthday_height: args.birthday_height };
    make(&args.answers, Some(lost), root, terminal)
}

/// A wallet of which only its words are left.
#[derive(Clone, Copy)]
struct Lost<'a> {
    /// `-`: to be read.
    words: &'a str,
    birthday_height: u32,
}

/// Everything is checked before the first file is written; the seed comes last, since a folder with a seed is a wallet.
fn make(
    given: &Overrides,
    lost: Option<Lost<'_>>,
    root: &Path,
    terminal: &mut Terminal<'_>,
) -> Result<(), Failure> {
    let layout = Layout::new(root);
    if layout.seed().exists() || layout.journal().exists() {
        return Err(DataDirError::HasWallet { root: root.to_owned() }.into());
    }
    let seed = seed(lost.map(|lost| lost.words), terminal)?;
    let answers = answers(given, terminal)?;
    let text = match lost {
        Some(lost) => config::write_restored(&answers, lost.birthday_height),
        None => config::write(&answers),
    };
    let checked = config::parse(&layout.config(), &text)?;

    let data = DataDir::open(root)?;
    write_config(&data, &text)?;
    seed::store(&seed, data.layout())?;

    let node_key = SeedSigner::new(&seed.bytes()).node_id();
    let made = json!({
        "data_dir": root,
        "config": layout.config(),
        "network": checked.network.to_string(),
        "node_key": node_key.to_string(),
        "hub_address": answers.hub_address,
        "hub_node_key": answers.hub_node_key,
        "restored": lost.is_some(),
        "birthday_height": lost.map(|lost| lost.birthday_height),
        "words": lost.is_none().then(|| seed.words()),
    });
    terminal.show(made, || {
        let words = if lost.is_none() { words_text(&seed.words()) } else { String::new() };
        let made = facts([
            ("node key", node_key.to_string()),
            ("configuration", layout.config().display().to_string()),
            ("next", format!("hubwallet daemon --data-dir {}", shell_word(root))),
        ]);
        format!("{words}{made}{}", if lost.is_some() { RESTORED } else { "" })
    })
}

/// What somebody who lost data should know.
const RESTORED: &str = "
The daemon looks through the chain for your coins, and asks the hub to close the channels that it has with you.
  hubwallet channels    shows how far that is
  hubwallet scan        finds what closed channels paid you, should the hub be gone for good
";

fn seed(words: Option<&str>, terminal: &mut Terminal<'_>) -> Result<Seed, Failure> {
    let given = match words {
        None => return Ok(Seed::generate()),
        Some("-") => {
            if terminal.asks {
                terminal.ask("The wallet's words, on one line", None)?
            } else {
                let mut all = String::new();
                terminal.input.read_to_string(&mut all)?;
                all
            }
        }
        Some(words) => words.to_owned(),
    };
    Seed::from_words(&given).map_err(|error| {
        Failure::usage(error.to_string())
            .advise("copy the words as `hubwallet init` showed them, in their order")
    })
}

/// What is missing is asked for on a terminal; elsewhere the defaults are taken, and what has none is named.
fn answers(given: &Overrides, terminal: &mut Terminal<'_>) -> Result<Answers, Failure> {
    if let Some(network) = given.network.as_deref().filter(|network| *network != "regtest") {
        return Err(Failure::usage(format!("--network {network}: this version knows regtest only")));
    }
    let asks = terminal.asks && !terminal.json;
    let mut answer = |given: &Option<String>, question: &str, default: &str| match given {
        Some(given) => Ok(given.clone()),
        None if asks => terminal.ask(question, Some(default)),
        None => Ok(default.to_owned()),
    };
    let hub_address = answer(&given.hub_address, "Host and port of the hub", HUB_ADDRESS)?;
    let bitcoind_url = answer(&given.bitcoind_url, "RPC address of your bitcoind", BITCOIND_URL)?;
    let bitcoind_cookie = answer(&given.bitcoind_cookie, "Cookie file of your bitcoind", BITCOIND_COOKIE)?;
    let hub_node_key = match &given.hub_node_key {
        Some(given) => given.clone(),
        None if asks => terminal.ask("The hub's node key (its operator tells it: `hubctl info`)", None)?,
        None => {
            return Err(Failure::usage("--hub-node-key is missing: the wallet knows its hub by this key")
                .advise("ask the hub's operator for it (`hubctl info`), 66 hexadecimal digits"));
        }
    };
    Ok(Answers {
        listen: given.listen.clone().unwrap_or_else(|| LISTEN.to_owned()),
        hub_address: hub_address.trim().to_owned(),
        hub_node_key: hub_node_key.trim().to_owned(),
        bitcoind_url: bitcoind_url.trim().to_owned(),
        bitcoind_cookie: whole_path(bitcoind_cookie.trim())?,
    })
}

/// The daemon may run in another folder, and the file knows no `~`.
pub(super) fn whole_path(path: &str) -> Result<String, Failure> {
    if path.is_empty() {
        return Ok(String::new());
    }
    let path = match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        (Some(_), None) | (None, _) => PathBuf::from(path),
    };
    let whole =
        std::path::absolute(&path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    let text = whole.to_str().ok_or_else(|| Failure::usage(format!("{} is not UTF-8", whole.display())))?;
    Ok(text.to_owned())
}

/// A configuration that somebody prepared is kept when it says the same, never overwritten. It is a secret, since
/// bitcoind's password may be put into it.
fn write_config(data: &DataDir, text: &str) -> Result<(), Failure> {
    let path = data.layout().config();
    match std::fs::read_to_string(&path) {
        Ok(found) if found == text => Ok(()),
        Ok(_) => {
            let text = format!("{} is there already and says something else", path.display());
            Err(Failure::new(Exit::Refused, "HAS_CONFIGURATION", text)
                .advise("move it away, or choose another --data-dir"))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok(write_secret(&path, text.as_bytes())?)
        }
        Err(source) => Err(FolderError::Unreadable { path, source }.into()),
    }
}

/// Numbered, in the order they are read: by lines of six.
fn words_text(words: &str) -> String {
    let words: Vec<&str> = words.split_whitespace().collect();
    let mut text =
        "These words are the wallet: whoever has them has the money. They are shown this once; write them down.\n\n".to_owned();
    for (line, six) in words.chunks(6).enumerate() {
        for (place, word) in six.iter().enumerate() {
            text.push_str(&format!("{:>3} {word:<9}", line * 6 + place + 1));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_numbered_in_the_order_they_are_read() {
        let words: Vec<String> = (1..=24).map(|number| format!("word{number}")).collect();
        let text = words_text(&words.join(" "));
        assert!(text.contains("  1 word1      2 word2"), "{text}");
        assert!(text.contains(" 19 word19    20 word20"), "{text}");
        assert!(text.ends_with("24 word24\n\n"), "{text}");
    }

    #[test]
    fn paths_are_whole_wherever_the_daemon_is_started() {
        assert_eq!(whole_path("/a/.cookie").unwrap(), "/a/.cookie");
        assert!(whole_path("a/.cookie").unwrap().starts_with('/'));
        assert!(!whole_path("~/a").unwrap().contains('~') || std::env::var_os("HOME").is_none());
        assert_eq!(whole_path("").unwrap(), "");
    }
}
