//! gRPC clients that carry the token of the process they talk to.

use std::net::SocketAddr;
use std::path::Path;

use proto::hub::v1::operator_client::OperatorClient;
use proto::wallet::v1::wallet_client::WalletClient;
use tonic::Status;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};

use super::error::LabError;

/// Talks to a wallet's daemon.
pub type Wallets = WalletClient<InterceptedService<Channel, Bearer>>;

/// Talks to the hub as its operator.
pub type Operators = OperatorClient<InterceptedService<Channel, Bearer>>;

/// Adds the token to each call.
#[derive(Debug, Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl Bearer {
    /// Reads a token from its file.
    ///
    /// # Errors
    /// The operating system's; a token that cannot be a header's value.
    pub fn read(file: &Path) -> Result<Bearer, LabError> {
        let text = std::fs::read_to_string(file)
            .map_err(LabError::system(format!("read the token {}", file.display())))?;
        let header = format!("Bearer {}", text.trim()).parse();
        let header = header.map_err(|_| LabError::Nonsense {
            name: file.display().to_string(),
            what: "the token has characters that no header may have".to_owned(),
        })?;
        Ok(Bearer(header))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// A connection that is made with the first call, and again whenever it broke.
pub fn connection(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address makes a URI");
    endpoint.tcp_nodelay(true).connect_lazy()
}

/// A client of a wallet's daemon.
pub fn wallet(address: SocketAddr, bearer: Bearer) -> Wallets {
    WalletClient::with_interceptor(connection(address), bearer)
}

/// A client of the hub's operator service.
pub fn operator(address: SocketAddr, bearer: Bearer) -> Operators {
    OperatorClient::with_interceptor(connection(address), bearer)
}
