//! The hub as a process, and calls to it as its operator.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bitcoin::Address;
use proto::hub::v1 as pb;

use super::chain::Chain;
use super::client::{Bearer, Operators, operator};
use super::daemon::Daemon;
use super::error::LabError;
use super::program::Program;
use crate::arguments;
use crate::bitcoind::unused_port;
use crate::limits::{PAGE_ROWS, PORT_TRIES, PROOF_WAIT_SECONDS, START_WITHIN, STOP_WITHIN};
use crate::process::Signal;
use crate::programs::Name;
use crate::wait::{Look, until_seen};

/// A hub, running or not. Its wallets find it under the same address in all its lives.
#[derive(Debug)]
pub struct Hub {
    daemon: Daemon,
    chain: Chain,
    settings: Vec<String>,
    address: Mutex<SocketAddr>,
    client: Mutex<Option<Operators>>,
}

impl Hub {
    /// Starts a new hub with these settings (`section.key=value`) and waits until it serves.
    ///
    /// # Errors
    /// [`LabError`].
    pub async fn start(
        program: &Program,
        root: &std::path::Path,
        chain: &Chain,
        settings: Vec<String>,
    ) -> Result<Hub, LabError> {
        let daemon = Daemon::new(program, Name::Hubd, root, "hub");
        let address = unused_port().map_err(LabError::system("find a free port"))?;
        let hub = Hub {
            daemon,
            chain: chain.clone(),
            settings,
            address: Mutex::new(address),
            client: Mutex::new(None),
        };
        let mut tries = PORT_TRIES;
        loop {
            match hub.start_again().await {
                Err(LabError::Ended { tail, .. })
                    if tries > 1 && tail.contains(&hub.address().to_string()) =>
                {
                    tries -= 1;
                    *hub.address.lock().unwrap_or_else(PoisonError::into_inner) =
                        unused_port().map_err(LabError::system("find a free port"))?;
                }
                outcome => return outcome.map(|()| hub),
            }
        }
    }

    /// Starts it on the data of its last life and waits until it serves.
    ///
    /// # Errors
    /// [`LabError`].
    pub async fn start_again(&self) -> Result<(), LabError> {
        let (operator_address, token) = (self.file("operator.addr"), self.file("operator.token"));
        self.daemon.start(&self.arguments(), &[&operator_address])?;
        let client = until_seen("hubd's start", START_WITHIN, async || {
            self.daemon.expect_running()?;
            let Some(address) = Daemon::written(&operator_address).and_then(|text| text.parse().ok()) else {
                return Ok(Look::NotYet("it has written no address".to_owned()));
            };
            let Ok(token) = Bearer::read(&token) else {
                return Ok(Look::NotYet("it has written no token".to_owned()));
            };
            let mut client = operator(address, token);
            match client.get_info(pb::OperatorGetInfoRequest {}).await {
                Ok(info) if info.get_ref().chain_ok => Ok(Look::Seen(client)),
                Ok(_) => Ok(Look::NotYet("it does not follow the chain yet".to_owned())),
                Err(status) => Ok(Look::NotYet(status.message().to_owned())),
            }
        })
        .await?;
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = Some(client);
        Ok(())
    }

    /// Starts it where no wallet looks for it: under another address, from now on.
    ///
    /// # Errors
    /// [`LabError`].
    pub async fn start_elsewhere(&self) -> Result<(), LabError> {
        let address = unused_port().map_err(LabError::system("find a free port"))?;
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = address;
        self.start_again().await
    }

    /// How it is started.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut arguments = Vec::from(arguments![
            "--data-dir",
            self.daemon.folder(),
            "--wallets-listen",
            self.address().to_string(),
            "--operator-listen",
            "127.0.0.1:0",
            "--bitcoind-url",
            self.chain.url(),
            "--bitcoind-cookie-file",
            self.chain.cookie_file(),
            // What tests and the demo count to the millisatoshi is counted without the price of channels, unless they ask for one.
            "--set",
            "inbound.fee_base_sat=0",
            "--set",
            "inbound.fee_ppm=0",
        ]);
        arguments.extend(arguments!["--set", format!("settlement.proof_wait_s={PROOF_WAIT_SECONDS}")]);
        for setting in &self.settings {
            arguments.extend(arguments!["--set", setting]);
        }
        arguments
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// The operating system's.
    pub fn kill(&self) -> Result<(), LabError> {
        self.daemon.kill()
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// [`LabError::TimedOut`]; [`LabError::Ended`] when it ended with an error.
    pub async fn stop(&self) -> Result<(), LabError> {
        self.daemon.signal(Signal::Terminate)?;
        let status = self.daemon.ended(STOP_WITHIN).await?;
        if status.success() {
            return Ok(());
        }
        let tail = crate::bitcoind::log_tail(self.daemon.log());
        Err(LabError::Ended { name: "hub".to_owned(), status, log: self.daemon.log().to_owned(), tail })
    }

    /// The process.
    pub fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// Where wallets connect.
    pub fn address(&self) -> SocketAddr {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client of the life that runs now.
    ///
    /// # Errors
    /// [`LabError::NotRunning`] before the first start.
    pub fn client(&self) -> Result<Operators, LabError> {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        client.clone().ok_or_else(|| LabError::NotRunning { name: "hub".to_owned() })
    }

    /// The operator's view of everything.
    ///
    /// # Errors
    /// [`LabError::Refused`].
    pub async fn info(&self) -> Result<pb::OperatorGetInfoResponse, LabError> {
        let answer = self.client()?.get_info(pb::OperatorGetInfoRequest {}).await;
        Ok(answer.map_err(refused("GetInfo"))?.into_inner())
    }

    /// A new address that funds the hub.
    ///
    /// # Errors
    /// [`LabError`].
    pub async fn new_address(&self) -> Result<Address, LabError> {
        let answer = self.client()?.new_address(pb::NewAddressRequest {}).await;
        super::regtest_address("hub", &answer.map_err(refused("NewAddress"))?.into_inner().address)
    }

    /// Its funds.
    ///
    /// # Errors
    /// [`LabError::Refused`].
    pub async fn balances(&self) -> Result<pb::GetBalancesResponse, LabError> {
        let answer = self.client()?.get_balances(pb::GetBalancesRequest {}).await;
        Ok(answer.map_err(refused("GetBalances"))?.into_inner())
    }

    /// All its channels, closed ones too.
    ///
    /// # Errors
    /// [`LabError::Refused`].
    pub async fn channels(&self) -> Result<Vec<pb::Channel>, LabError> {
        let mut channels = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = pb::ListChannelsRequest {
                page_size: PAGE_ROWS,
                page_token,
                node_key: Default::default(),
                include_closed: true,
            };
            let answer = self.client()?.list_channels(request).await.map_err(refused("ListChannels"))?;
            let answer = answer.into_inner();
            channels.extend(answer.channels);
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                return Ok(channels);
            }
        }
    }

    /// Starts a cooperative close.
    ///
    /// # Errors
    /// [`LabError::Refused`].
    pub async fn close(&self, channel_id: &bytes::Bytes) -> Result<(), LabError> {
        let request = pb::CloseChannelRequest {
            channel_id: channel_id.clone(),
            request_id: super::request_id().to_string(),
            force: false,
        };
        self.client()?.close_channel(request).await.map_err(refused("CloseChannel"))?;
        Ok(())
    }

    /// Gives a channel up: it ends on the chain, without the wallet's help.
    ///
    /// # Errors
    /// [`LabError::Refused`].
    pub async fn force_close(&self, channel_id: &bytes::Bytes) -> Result<(), LabError> {
        let request = pb::CloseChannelRequest {
            channel_id: channel_id.clone(),
            request_id: super::request_id().to_string(),
            force: true,
        };
        self.client()?.close_channel(request).await.map_err(refused("CloseChannel"))?;
        Ok(())
    }

    /// Waits until it follows the chain at this height.
    ///
    /// # Errors
    /// [`LabError`].
    pub async fn reaches(&self, height: u32, within: Duration) -> Result<(), LabError> {
        until_seen(&format!("the hub's view of height {height}"), within, async || {
            self.daemon.expect_running()?;
            let info = self.info().await?;
            Ok(match info.height >= height {
                true => Look::Seen(()),
                false => Look::NotYet(format!("height {}", info.height)),
            })
        })
        .await
    }

    /// A file in its data folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.daemon.folder().join(name)
    }

    /// The seed that all its keys come from.
    pub fn seed_file(&self) -> PathBuf {
        self.file("seed")
    }
}

fn refused(call: &'static str) -> impl FnOnce(tonic::Status) -> LabError {
    move |status| LabError::Refused { name: "hub".to_owned(), call, status: Box::new(status) }
}
