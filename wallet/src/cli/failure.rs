//! Why a command did not do what was asked: one exit code a kind, what was wrong, and what to do next.

use std::path::Path;

use daemon::data_dir::FolderError;
use proto::error::{ErrorCode, ErrorDetail};
use proto::request_id::RequestId;
use serde_json::{Value, json};

use super::text::plain;
use crate::client::{CallError, ConnectError};
use crate::config::ConfigError;
use crate::data_dir::DataDirError;

/// What ends the program. The overview in `args.rs` explains the codes to users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Fault,
    Usage,
    NoDaemon,
    Token,
    Refused,
    Failed,
    Later,
    Unknown,
}

impl Exit {
    pub fn code(self) -> u8 {
        match self {
            Exit::Fault => 1,
            Exit::Usage => 2,
            Exit::NoDaemon => 3,
            Exit::Token => 4,
            Exit::Refused => 5,
            Exit::Failed => 6,
            Exit::Later => 7,
            Exit::Unknown => 8,
        }
    }
}

/// The code when whoever read standard output has seen enough (`hubwallet events | head`): nothing to complain about.
pub const READER_GONE: &str = "READER_GONE";

/// A failure, for people and for scripts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    pub exit: Exit,
    /// Machine-readable name: an `ErrorCode` of the daemon without its prefix, or one of this program's own.
    pub code: String,
    /// What was wrong and what was expected.
    pub text: String,
    /// What to do next; may be empty.
    pub advice: String,
    /// The request's field that was wrong, or the reason of a failed payment; may be empty.
    pub field: String,
    /// The id to repeat the call under.
    pub request_id: Option<RequestId>,
}

impl Failure {
    pub fn new(exit: Exit, code: &str, text: impl Into<String>) -> Self {
        Failure {
            exit,
            code: code.to_owned(),
            text: text.into(),
            advice: String::new(),
            field: String::new(),
            request_id: None,
        }
    }

    pub fn usage(text: impl Into<String>) -> Self {
        Failure::new(Exit::Usage, "USAGE", text)
    }

    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }

    pub fn with_request_id(self, request_id: Option<RequestId>) -> Self {
        Failure { request_id, ..self }
    }

    /// What a call to the daemon of this data folder ended with. Without an id the call changed nothing, so that nothing is
    /// unknown when no answer came: the daemon is not there.
    pub fn of_call(error: CallError, data_dir: &Path, request_id: Option<RequestId>) -> Self {
        Failure { request_id, ..Failure::of_answer(error, data_dir, request_id.is_some()) }
    }

    fn of_answer(error: CallError, data_dir: &Path, may_have_changed: bool) -> Self {
        match error {
            CallError::Connect(error) => Failure::of_connect(error, data_dir),
            CallError::Refused(status) => match proto::error::parse(&status) {
                Some(detail) => Failure::of_detail(detail, data_dir),
                None => {
                    let text = format!("the daemon answers {:?}: {}", status.code(), status.message());
                    Failure::new(Exit::Fault, "UNEXPECTED_ANSWER", text)
                        .advise("daemon and command line may be of different versions; restart the daemon")
                }
            },
            CallError::Unknown { last } if may_have_changed => {
                Failure::new(Exit::Unknown, "UNKNOWN", format!("no answer in time: {last}"))
                    .advise("it may still happen, or have happened: repeat with the same --request-id")
            }
            CallError::Unknown { last } => {
                Failure::new(Exit::NoDaemon, "NO_ANSWER", format!("the daemon gives no answer: {last}"))
                    .advise(start_it(data_dir))
            }
        }
    }

    pub fn of_connect(error: ConnectError, data_dir: &Path) -> Self {
        match error {
            ConnectError::DataDir(error) => error.into(),
            ConnectError::NotRunning { .. } => {
                Failure::new(Exit::NoDaemon, "DAEMON_NOT_RUNNING", error.to_string())
                    .advise(start_it(data_dir))
            }
            ConnectError::NoAnswer { .. } => {
                Failure::new(Exit::NoDaemon, "DAEMON_NOT_RUNNING", error.to_string())
                    .advise(start_it(data_dir))
            }
        }
    }

    fn of_detail(detail: ErrorDetail, data_dir: &Path) -> Self {
        let code = detail.code();
        let (exit, usual) = kind(code);
        let advice = match code {
            _ if !detail.advice.is_empty() => detail.advice,
            ErrorCode::BadToken => format!(
                "{usual}: hubwallet daemon --data-dir {}; or pass the right --data-dir",
                shell_word(data_dir)
            ),
            _ => usual.to_owned(),
        };
        let name = code.as_str_name();
        let name = name.strip_prefix("ERROR_CODE_").unwrap_or(name);
        let text = if detail.text.is_empty() { name.to_owned() } else { detail.text };
        Failure { advice, field: detail.field, ..Failure::new(exit, name, text) }
    }

    /// For scripts.
    pub fn json(&self) -> Value {
        json!({ "error": {
            "exit_code": self.exit.code(),
            "code": self.code,
            "text": self.text,
            "advice": self.advice,
            "field": self.field,
            "request_id": self.request_id.map(|id| id.to_string()),
        }})
    }

    /// For people.
    pub fn lines(&self) -> String {
        let mut lines = format!("hubwallet: {}\n", plain(&self.text));
        if !self.advice.is_empty() {
            lines.push_str(&format!("  {}\n", plain(&self.advice)));
        }
        if let (Exit::Unknown, Some(id)) = (self.exit, self.request_id) {
            lines.push_str(&format!("  --request-id {id}\n"));
        }
        lines
    }
}

fn start_it(data_dir: &Path) -> String {
    format!("start it: hubwallet daemon --data-dir {}", shell_word(data_dir))
}

/// How the program ends for each of the daemon's errors, and what usually helps when the daemon gave no advice.
fn kind(code: ErrorCode) -> (Exit, &'static str) {
    use ErrorCode as E;
    match code {
        E::Unspecified => {
            (Exit::Fault, "daemon and command line may be of different versions; restart the daemon")
        }
        E::MissingField | E::BadField | E::BadAmount | E::BadPageToken | E::RequestIdMalformed => {
            (Exit::Refused, "")
        }
        E::InvoiceMalformed => (Exit::Refused, "copy the invoice whole, from lnbcrt to its end"),
        E::InvoiceWrongNetwork => (Exit::Refused, "ask the payee for an invoice of this wallet's network"),
        E::InvoiceExpired => (Exit::Refused, "ask the payee for a new invoice"),
        E::InvoiceUnsupported => (Exit::Refused, "ask the payee for a plainer invoice"),
        E::PaymentInFlight => (Exit::Refused, "`hubwallet payments` shows how it stands"),
        E::AlreadyPaid => {
            (Exit::Refused, "`hubwallet payments` shows the payment; ask the payee for a new invoice")
        }
        E::RequestIdReused => (Exit::Refused, "use a new --request-id for another request, or leave it out"),
        E::RequestIdTooOld => (Exit::Refused, "look whether it was executed, then use a new --request-id"),
        E::NoChannel => (
            Exit::Refused,
            "`hubwallet channels` shows why; open one: hubwallet open --amount-sat N (to pay), --inbound-sat N (to be paid)",
        ),
        E::InsufficientFunds => (
            Exit::Refused,
            "`hubwallet balance` shows what there is; send coins to `hubwallet address`, or be paid first",
        ),
        E::FeeAboveLimit => (Exit::Refused, "allow more with --max-fee-msat"),
        E::FeerateTooLow => (Exit::Refused, "give a higher --feerate"),
        E::NotFound | E::InvoiceWrongState | E::NotPublishable => (Exit::Refused, ""),
        E::PaymentFailed | E::StreamRefused => (Exit::Failed, ""),
        E::HubOffline => (Exit::Later, "`hubwallet info` shows the trouble; the daemon keeps trying"),
        E::ChainUnavailable => (Exit::Later, "`hubwallet info` shows the trouble; start bitcoind"),
        E::LimitReached => (Exit::Later, "try again when there is less under way"),
        E::DiskNearlyFull => (Exit::Later, "free some space on the disk of the data folder"),
        E::EventsTooOld => {
            (Exit::Refused, "read the present state, then follow from now: hubwallet events --follow")
        }
        E::EventsInFuture => (Exit::Refused, "`hubwallet info` shows the newest event"),
        E::BadToken => {
            (Exit::Token, "another wallet's daemon may listen at this address now; start this one's again")
        }
        E::HandshakeFailed | E::UnsupportedVersion | E::FrameTooLarge | E::FrameMalformed => {
            (Exit::Fault, "")
        }
        E::NotYourChannel | E::ChannelRefused | E::AgainstPolicy => (Exit::Refused, ""),
        E::Superseded => (Exit::Later, "the same wallet runs elsewhere: only one daemon may"),
        E::Stopping => (Exit::Later, "start the daemon again"),
        E::Fault => (Exit::Fault, "see the daemon's log"),
        E::StillUnderWay => (Exit::Unknown, "ask again with the same --request-id"),
    }
}

impl From<FolderError> for Failure {
    fn from(error: FolderError) -> Self {
        DataDirError::from(error).into()
    }
}

impl From<DataDirError> for Failure {
    fn from(error: DataDirError) -> Self {
        let (exit, code) = match &error {
            DataDirError::Folder(FolderError::InUse { .. }) => (Exit::NoDaemon, "DATA_DIR_IN_USE"),
            DataDirError::NoWallet { .. } => (Exit::Usage, "NO_WALLET"),
            DataDirError::HasWallet { .. } => (Exit::Refused, "HAS_WALLET"),
            DataDirError::Folder(FolderError::OpenToOthers { .. }) => (Exit::Fault, "OPEN_TO_OTHERS"),
            DataDirError::Folder(FolderError::Unwritable { .. }) => (Exit::Fault, "UNWRITABLE"),
            DataDirError::Folder(FolderError::Unreadable { .. }) => (Exit::Fault, "UNREADABLE"),
            DataDirError::Folder(FolderError::Malformed { .. }) => (Exit::Fault, "MALFORMED"),
        };
        Failure::new(exit, code, error.to_string())
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Failure::new(Exit::Usage, "CONFIGURATION", error.to_string().trim_end())
    }
}

/// Standard output or input failed.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Failure::new(Exit::Fault, READER_GONE, "nobody reads standard output any more");
        }
        Failure::new(Exit::Fault, "TERMINAL", format!("standard input or output: {error}"))
    }
}

/// A path as it must be typed in a shell.
pub fn shell_word(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |character: char| character.is_ascii_alphanumeric() || "/._-+:@%".contains(character);
    if !text.is_empty() && text.chars().all(plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_codes() -> impl Iterator<Item = ErrorCode> {
        (0..).map_while(|number| ErrorCode::try_from(number).ok())
    }

    #[test]
    fn every_error_of_the_daemon_keeps_its_name_text_and_advice() {
        assert!(all_codes().count() > 30);
        for code in all_codes() {
            let status = proto::error::status_with_advice(code, "what was wrong", "what helps");
            let failure = Failure::of_call(CallError::Refused(Box::new(status)), Path::new("/w"), None);
            assert_eq!(format!("ERROR_CODE_{}", failure.code), code.as_str_name());
            assert_eq!((failure.text.as_str(), failure.advice.as_str()), ("what was wrong", "what helps"));
        }
    }

    #[test]
    fn errors_that_users_meet_daily_say_what_to_do_next_even_when_the_daemon_does_not() {
        for (code, exit, part) in [
            (ErrorCode::BadToken, 4, "hubwallet daemon --data-dir /w"),
            (ErrorCode::InsufficientFunds, 5, "hubwallet balance"),
            (ErrorCode::NoChannel, 5, "hubwallet open"),
            (ErrorCode::InvoiceExpired, 5, "a new invoice"),
            (ErrorCode::AlreadyPaid, 5, "hubwallet payments"),
            (ErrorCode::HubOffline, 7, "hubwallet info"),
            (ErrorCode::ChainUnavailable, 7, "bitcoind"),
            (ErrorCode::DiskNearlyFull, 7, "space"),
            (ErrorCode::StillUnderWay, 8, "--request-id"),
        ] {
            let status = proto::error::status(code, "text");
            let failure = Failure::of_call(CallError::Refused(Box::new(status)), Path::new("/w"), None);
            assert_eq!(failure.exit.code(), exit, "{code:?}");
            assert!(failure.advice.contains(part), "{code:?}: {}", failure.advice);
        }
    }

    #[test]
    fn a_daemon_that_is_not_there_is_named_with_the_command_that_starts_it() {
        let error = ConnectError::NotRunning { root: "/my wallet".into() };
        let failure = Failure::of_connect(error, Path::new("/my wallet"));
        assert_eq!(failure.exit.code(), 3);
        let expected = "hubwallet: the daemon of /my wallet is not running\n  start it: hubwallet daemon --data-dir '/my wallet'\n";
        assert_eq!(failure.lines(), expected);
    }

    #[test]
    fn an_unknown_outcome_names_the_id_to_repeat_under() {
        let id = crate::client::new_request_id();
        let failure =
            Failure::of_call(CallError::Unknown { last: "broken".into() }, Path::new("/w"), Some(id));
        assert!(failure.lines().contains(&format!("--request-id {id}")), "{}", failure.lines());
        assert_eq!(failure.json()["error"]["request_id"], id.to_string());
        assert_eq!(failure.json()["error"]["exit_code"], 8);
    }

    #[test]
    fn words_for_the_shell_are_quoted_only_when_they_must_be() {
        assert_eq!(shell_word(Path::new("/tmp/w-1")), "/tmp/w-1");
        assert_eq!(shell_word(Path::new("/it's")), r"'/it'\''s'");
        assert_eq!(shell_word(Path::new("~/w")), "'~/w'");
    }
}
