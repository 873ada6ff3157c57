//! What can go wrong while processes are run: always with the name of the process it concerns.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use proto::hub::v1::FailureReason;

use crate::bitcoind::{NodeError, RpcError};
use crate::miner::MinerError;

/// Why the lab could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// bitcoind could not be started or stopped.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// bitcoind said no.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// There are no coins to pay with.
    #[error(transparent)]
    Miner(#[from] MinerError),
    /// The operating system refused something.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: String,
        /// What it said.
        source: std::io::Error,
    },
    /// A process ended that should run.
    #[error("{name} ended ({status}); its last words in {log}:\n{tail}", log = log.display())]
    Ended {
        /// Which one.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// Everything it printed.
        log: PathBuf,
        /// The last lines of that.
        tail: String,
    },
    /// A command line failed.
    #[error("`{command}` failed ({status}): {stderr}")]
    Command {
        /// The program and its arguments.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        stderr: String,
    },
    /// A call was refused.
    #[error("{name} refused {call}: {} ({:?})", status.message(), status.code())]
    Refused {
        /// Which process.
        name: String,
        /// Which call.
        call: &'static str,
        /// What it answered.
        status: Box<tonic::Status>,
    },
    /// A process does not run now.
    #[error("{name} does not run")]
    NotRunning {
        /// Which one.
        name: String,
    },
    /// Something did not happen in time.
    #[error("{what} did not happen within {within:?}; at last: {last}")]
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long was waited.
        within: Duration,
        /// What the last look showed.
        last: String,
    },
    /// An answer makes no sense.
    #[error("{name} answered nonsense: {what}")]
    Nonsense {
        /// Which process.
        name: String,
        /// What was wrong with it.
        what: String,
    },
    /// Something was promised and not kept. This is what the lab is there to find.
    #[error("BROKEN PROMISE: {0}")]
    Broken(String),
}

impl LabError {
    /// For `map_err` on what the operating system refuses.
    pub fn system(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> LabError {
        let action = action.into();
        move |source| LabError::System { action, source }
    }

    /// The gRPC status behind a refusal.
    pub fn status(&self) -> Option<&tonic::Status> {
        match self {
            LabError::Refused { status, .. } => Some(status),
            LabError::Node(_)
            | LabError::Rpc(_)
            | LabError::Miner(_)
            | LabError::System { .. }
            | LabError::Ended { .. }
            | LabError::Command { .. }
            | LabError::NotRunning { .. }
            | LabError::TimedOut { .. }
            | LabError::Nonsense { .. }
            | LabError::Broken(_) => None,
        }
    }

    /// Why a payment failed for good, when that is what was answered.
    pub fn failure(&self) -> Option<FailureReason> {
        let detail = self.status().and_then(proto::error::parse)?;
        let failed = detail.code() == proto::error::ErrorCode::PaymentFailed;
        failed.then(|| FailureReason::from_str_name(&detail.field).unwrap_or_default())
    }

    /// The machine-readable reason of a refusal.
    pub fn code(&self) -> Option<proto::error::ErrorCode> {
        self.status().and_then(proto::error::parse).map(|detail| detail.code())
    }
}
