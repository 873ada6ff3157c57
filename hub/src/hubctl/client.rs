//! Finding and reaching the hub, and what to tell people when that fails.

use std::path::PathBuf;

use daemon::data_dir::FolderError;
use daemon::token::Token;
use proto::error::ErrorDetail;
use proto::hub::v1::operator_client::OperatorClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::config::{ConfigError, Layers, load};
use crate::data_dir::{Layout, PROGRAM};

use super::cli::Cli;

pub type Client = OperatorClient<InterceptedService<Channel, WithToken>>;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CtlError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    DataDir(#[from] FolderError),
    #[error("there is no token in {}", path.display())]
    NoToken { path: PathBuf },
    #[error("there is no address in {}: hubd has not been started there", path.display())]
    NoAddress { path: PathBuf },
    #[error("{text:?} is no address")]
    BadAddress { text: String },
    #[error("hubd does not answer at {address}: {reason}")]
    Unreachable { address: String, reason: String },
    #[error("{}", .0.message())]
    Refused(Box<Status>),
    #[error("{field} is {found:?}, expected {expected}")]
    BadArgument { field: &'static str, found: String, expected: &'static str },
    #[error("{failed} of {all} channels could not be closed")]
    SomeNotClosed { failed: usize, all: usize },
    #[error("the output cannot be written: {0}")]
    Output(#[from] std::io::Error),
}

impl From<Status> for CtlError {
    fn from(status: Status) -> Self {
        CtlError::Refused(Box::new(status))
    }
}

impl CtlError {
    /// What to do next, where that is known.
    pub fn advice(&self) -> Option<String> {
        match self {
            CtlError::NoToken { .. } | CtlError::NoAddress { .. } => {
                Some("start hubd first, or name its folder with --data-dir".into())
            }
            CtlError::Unreachable { .. } => {
                Some("is hubd running? its log says why not; --address names another place".into())
            }
            CtlError::Refused(status) => {
                detail(status).map(|detail| detail.advice).filter(|advice| !advice.is_empty())
            }
            CtlError::SomeNotClosed { .. } => {
                Some("wallets that are away close when they return; `hubctl channels` shows the rest".into())
            }
            CtlError::Config(_)
            | CtlError::DataDir(_)
            | CtlError::BadAddress { .. }
            | CtlError::BadArgument { .. }
            | CtlError::Output(_) => None,
        }
    }

    /// 1: the hub refused or failed. 2: wrong usage. 3: the hub was not reached.
    pub fn exit_code(&self) -> u8 {
        match self {
            CtlError::Refused(_) | CtlError::SomeNotClosed { .. } | CtlError::Output(_) => 1,
            CtlError::Config(_) | CtlError::BadAddress { .. } | CtlError::BadArgument { .. } => 2,
            CtlError::DataDir(_)
            | CtlError::NoToken { .. }
            | CtlError::NoAddress { .. }
            | CtlError::Unreachable { .. } => 3,
        }
    }
}

/// The machine-readable half of a refusal.
pub fn detail(status: &Status) -> Option<ErrorDetail> {
    proto::error::parse(status)
}

/// Adds the token to every call.
#[derive(Debug, Clone)]
pub struct WithToken(MetadataValue<Ascii>);

impl Interceptor for WithToken {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// Connects to the hub of the flags.
pub async fn connect(cli: &Cli) -> Result<Client, CtlError> {
    let root = match &cli.data_dir {
        Some(root) => root.clone(),
        None => load(&Layers::default())?.data_dir,
    };
    let layout = Layout::new(root);
    let token_path = cli.token_file.clone().unwrap_or_else(|| layout.operator_token());
    let token = Token::load(&token_path, &PROGRAM)?.ok_or(CtlError::NoToken { path: token_path })?;
    let address = match &cli.address {
        Some(address) => address.clone(),
        None => {
            let path = layout.operator_address();
            let text = std::fs::read_to_string(&path).map_err(|_| CtlError::NoAddress { path })?;
            text.trim().to_owned()
        }
    };
    let header = token.header().parse().map_err(|_| CtlError::BadAddress { text: "the token".into() })?;
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| CtlError::BadAddress { text: address.clone() })?;
    let channel = endpoint.connect().await.map_err(|error| CtlError::Unreachable {
        address,
        reason: std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string),
    })?;
    Ok(OperatorClient::with_interceptor(channel, WithToken(header)))
}
