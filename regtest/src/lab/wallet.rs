//! A wallet or merchant as a process, and calls to its daemon.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bitcoin::Address;
use bytes::Bytes;
use proto::hub::v1 as hub_pb;
use proto::wallet::v1 as pb;

use super::chain::Chain;
use super::client::{Bearer, Wallets, wallet};
use super::daemon::Daemon;
use super::error::LabError;
use super::hub::Hub;
use super::program::Program;
use crate::arguments;
use crate::limits::{PAGE_ROWS, PROOF_WAIT_SECONDS, START_WITHIN, STOP_WITHIN};
use crate::process::Signal;
use crate::programs::Name;
use crate::wait::{Look, until_seen};

/// A wallet, running or not.
#[derive(Debug)]
pub struct Wallet {
    daemon: Daemon,
    settings: Vec<String>,
    node_key: Bytes,
    client: Mutex<Option<Wallets>>,
}

impl Wallet {
    /// Makes a new wallet of this hub and starts its daemon.
    ///
    /// # Errors
    /// [`LabError`].
    pub async fn start(
        program: &Program,
        root: &Path,
        name: &str,
        chain: &Chain,
        hub: &Hub,
        settings: &[String],
    ) -> Result<Wallet, LabError> {
        let mut wallet = Wallet {
            daemon: Daemon::new(program, Name::Hubwallet, root, name),
            settings: settings.to_vec(),
            node_key: Bytes::new(),
            client: Mutex::new(None),
        };
        let hub_key = hex::encode(hub.info().await?.node_key);
        let init = init_arguments(wallet.daemon.folder(), chain, &hub.address().to_string(), &hub_key);
        program.run(Name::Hubwallet, &init).await?;
        wallet.start_again().await?;
        wallet.node_key = wallet.info().await?.node_key;
        Ok(wallet)
    }

    /// Starts the daemon on the data of its last life and waits until it answers; it may not be connected yet.
    ///
    /// # Errors
    /// [`LabError`].
    pub async fn start_again(&self) -> Result<(), LabError> {
        self.start_with(&[]).await
    }

    /// The same with these settings (`section.key=value`) on top, for this life only.
    ///
    /// # Errors
    /// [`LabError`].
    pub async fn start_with(&self, settings: &[&str]) -> Result<(), LabError> {
        let (address_file, token) = (self.file("wallet.addr"), self.file("wallet.token"));
        let mut given = self.daemon_arguments();
        for setting in settings {
            given.extend(arguments!["--set", setting]);
        }
        self.daemon.start(&given, &[&address_file])?;
        let what = format!("the start of {}", self.name());
        let client = until_seen(&what, START_WITHIN, async || {
            self.daemon.expect_running()?;
            let Some(address) = Daemon::written(&address_file).and_then(|text| text.parse().ok()) else {
                return Ok(Look::NotYet("it has written no address".to_owned()));
            };
            let Ok(token) = Bearer::read(&token) else {
                return Ok(Look::NotYet("it has written no token".to_owned()));
            };
            let mut client = wallet(address, token);
            match client.get_info(pb::GetInfoRequest {}).await {
                Ok(_) => Ok(Look::Seen(client)),
                Err(status) => Ok(Look::NotYet(status.message().to_owned())),
            }
        })
        .await?;
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = Some(client);
        Ok(())
    }

    /// How the daemon is started.
    pub fn daemon_arguments(&self) -> Vec<OsString> {
        let mut arguments = Vec::from(arguments!["daemon", "--data-dir", self.daemon.folder()]);
        arguments.extend(arguments!["--set", format!("channels.proof_wait_seconds={PROOF_WAIT_SECONDS}")]);
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
        Err(LabError::Ended { name: self.name().to_owned(), status, log: self.daemon.log().to_owned(), tail })
    }

    /// How it is called here.
    pub fn name(&self) -> &str {
        self.daemon.name()
    }

    /// The process.
    pub fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// Its node key, 33 bytes.
    pub fn node_key(&self) -> &Bytes {
        &self.node_key
    }

    /// A file in its data folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.daemon.folder().join(name)
    }

    /// The seed that all its keys come from.
    pub fn seed_file(&self) -> PathBuf {
        self.file("seed")
    }

    /// A client of the life that runs now.
    ///
    /// # Errors
    /// [`LabError::NotRunning`] before the first start.
    pub fn client(&self) -> Result<Wallets, LabError> {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        client.clone().ok_or_else(|| LabError::NotRunning { name: self.name().to_owned() })
    }

    /// For `map_err` on calls of [`Wallet::client`].
    pub fn refused(&self, call: &'static str) -> impl FnOnce(tonic::Status) -> LabError {
        let name = self.name().to_owned();
        move |status| LabError::Refused { name, call, status: Box::new(status) }
    }

    /// Its view of everything.
    ///
    /// # Errors
    /// [`LabError::Refused`].
    pub async fn info(&self) -> Result<pb::GetInfoResponse, LabError> {
        let answer = self.client()?.get_info(pb::GetInfoRequest {}).await;
        Ok(answer.map_err(self.refused("GetInfo"))?.into_inner())
    }

    /// A new on-chain address.
    ///
    /// # Errors
    /// [`LabError`].
    pub async fn new_address(&self) -> Result<Address, LabError> {
        let answer = self.client()?.new_address(pb::NewAddressRequest {}).await;
        super::regtest_address(self.name(), &answer.map_err(self.refused("NewAddress"))?.into_inner().address)
    }

    /// Its funds.
    ///
    /// # Errors
    /// [`LabError::Refused`].
    pub async fn balance(&self) -> Result<pb::GetBalanceResponse, LabError> {
        let answer = self.client()?.get_balance(pb::GetBalanceRequest {}).await;
        Ok(answer.map_err(self.refused("GetBalance"))?.into_inner())
    }

    /// Its channels, closed ones too.
    ///
    /// # Errors
    /// [`LabError::Refused`].
    pub async fn channels(&self) -> Result<Vec<hub_pb::Channel>, LabError> {
        let answer = self.client()?.list_channels(pb::ListChannelsRequest { include_closed: true }).await;
        Ok(answer.map_err(self.refused("ListChannels"))?.into_inner().channels)
    }

    /// Opens a channel that it funds; gives the id.
    ///
    /// # Errors
    /// [`LabError::Refused`].
    pub async fn open(&self, amount_sat: u64) -> Result<Bytes, LabError> {
        let request = pb::OpenChannelRequest { amount_sat, request_id: super::request_id().to_string() };
        let answer = self.client()?.open_channel(request).await;
        Ok(answer.map_err(self.refused("OpenChannel"))?.into_inner().channel_id)
    }

    /// Asks for a channel that the hub funds; gives the id.
    ///
    /// # Errors
    /// [`LabError::Refused`].
    pub async fn request_inbound(&self, amount_sat: u64) -> Result<Bytes, LabError> {
        self.request_inbound_for(amount_sat, None).await
    }

    /// The same, for so many satoshi at most.
    ///
    /// # Errors
    /// [`LabError`].
    pub async fn request_inbound_for(
        &self,
        amount_sat: u64,
        max_fee_sat: Option<u64>,
    ) -> Result<Bytes, LabError> {
        let request_id = super::request_id().to_string();
        let request = pb::RequestInboundRequest { amount_sat, request_id, max_fee_sat };
        let answer = self.client()?.request_inbound(request).await;
        Ok(answer.map_err(self.refused("RequestInbound"))?.into_inner().channel_id)
    }

    /// Makes an invoice.
    ///
    /// # Errors
    /// [`LabError::Refused`].
    pub async fn invoice(&self, amount_msat: u64, description: &str) -> Result<String, LabError> {
        Ok(self.create_invoice(amount_msat, description, false).await?.invoice)
    }

    /// Makes an invoice whose payment waits for [`Wallet::settle`] or [`Wallet::cancel`].
    ///
    /// # Errors
    /// [`LabError::Refused`].
    pub async fn hold_invoice(&self, amount_msat: u64) -> Result<pb::CreateInvoiceResponse, LabError> {
        self.create_invoice(amount_msat, "held", true).await
    }

    async fn create_invoice(
        &self,
        amount_msat: u64,
        description: &str,
        hold: bool,
    ) -> Result<pb::CreateInvoiceResponse, LabError> {
        let request = pb::CreateInvoiceRequest {
            amount_msat: Some(amount_msat),
            description: description.to_owned(),
            expiry_seconds: 0,
            request_id: super::request_id().to_string(),
            hold,
        };
        let answer = self.client()?.create_invoice(request).await;
        Ok(answer.map_err(self.refused("CreateInvoice"))?.into_inner())
    }

    /// Takes the payment that waits for a hold invoice.
    ///
    /// # Errors
    /// [`LabError::Refused`].
    pub async fn settle(&self, payment_hash: &Bytes) -> Result<(), LabError> {
        let request = pb::SettleInvoiceRequest { payment_hash: payment_hash.clone() };
        let answer = self.client()?.settle_invoice(request).await;
        answer.map(|_| ()).map_err(self.refused("SettleInvoice"))
    }

    /// Refuses the payment that waits for a hold invoice.
    ///
    /// # Errors
    /// [`LabError::Refused`].
    pub async fn cancel(&self, payment_hash: &Bytes) -> Result<(), LabError> {
        let request = pb::CancelInvoiceRequest { payment_hash: payment_hash.clone() };
        let answer = self.client()?.cancel_invoice(request).await;
        answer.map(|_| ()).map_err(self.refused("CancelInvoice"))
    }

    /// Payments that wait for a decision.
    ///
    /// # Errors
    /// [`LabError::Refused`].
    pub async fn held(&self) -> Result<Vec<pb::HeldPayment>, LabError> {
        let answer = self.client()?.list_held(pb::ListHeldRequest {}).await;
        Ok(answer.map_err(self.refused("ListHeld"))?.into_inner().held)
    }

    /// Pays an invoice once and waits until it is settled.
    ///
    /// # Errors
    /// [`LabError::Refused`] when the wallet refuses to try, and when the payment fails ([`LabError::failure`]).
    pub async fn pay(&self, invoice: &str) -> Result<pb::Payment, LabError> {
        let request = pb::PayRequest {
            invoice: invoice.to_owned(),
            amount_msat: None,
            max_fee_msat: None,
            request_id: super::request_id().to_string(),
        };
        let answer = self.client()?.pay(request).await.map_err(self.refused("Pay"))?;
        self.payment(answer.into_inner())
    }

    /// Pays a node without an invoice.
    ///
    /// # Errors
    /// As for [`Wallet::pay`].
    pub async fn send(&self, payee: &Bytes, amount_msat: u64) -> Result<pb::Payment, LabError> {
        let request = pb::SendRequest {
            payee: payee.clone(),
            amount_msat,
            max_fee_msat: None,
            request_id: super::request_id().to_string(),
        };
        let answer = self.client()?.send(request).await.map_err(self.refused("Send"))?;
        self.payment(answer.into_inner())
    }

    /// The payment that such an answer must hold.
    pub(super) fn payment(&self, answer: pb::PayResponse) -> Result<pb::Payment, LabError> {
        let what = || "an answer without a payment".to_owned();
        answer.payment.ok_or_else(|| LabError::Nonsense { name: self.name().to_owned(), what: what() })
    }

    /// Starts a stream; its progress comes until the end.
    ///
    /// # Errors
    /// [`LabError::Refused`].
    pub async fn stream(
        &self,
        terms: pb::StartStreamRequest,
    ) -> Result<tonic::Streaming<pb::StreamProgress>, LabError> {
        let answer = self.client()?.start_stream(terms).await;
        Ok(answer.map_err(self.refused("StartStream"))?.into_inner())
    }

    /// Every payment of it, the newest first.
    ///
    /// # Errors
    /// [`LabError::Refused`].
    pub async fn payments(&self) -> Result<Vec<pb::Payment>, LabError> {
        let mut payments = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = pb::ListPaymentsRequest { page_size: PAGE_ROWS, page_token, direction: 0 };
            let answer = self.client()?.list_payments(request).await.map_err(self.refused("ListPayments"))?;
            let answer = answer.into_inner();
            payments.extend(answer.payments);
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                return Ok(payments);
            }
        }
    }

    /// Starts the cooperative close of a channel.
    ///
    /// # Errors
    /// [`LabError::Refused`].
    pub async fn close(&self, channel_id: &Bytes) -> Result<(), LabError> {
        let request = pb::CloseChannelRequest {
            channel_id: channel_id.clone(),
            request_id: super::request_id().to_string(),
            force: false,
        };
        self.client()?.close_channel(request).await.map_err(self.refused("CloseChannel"))?;
        Ok(())
    }

    /// Gives a channel up: it ends on the chain, without the hub's help.
    ///
    /// # Errors
    /// [`LabError::Refused`].
    pub async fn force_close(&self, channel_id: &Bytes) -> Result<(), LabError> {
        let request = pb::CloseChannelRequest {
            channel_id: channel_id.clone(),
            request_id: super::request_id().to_string(),
            force: true,
        };
        self.client()?.close_channel(request).await.map_err(self.refused("CloseChannel"))?;
        Ok(())
    }

    /// Waits until it follows the chain at this height.
    ///
    /// # Errors
    /// [`LabError`].
    pub async fn reaches(&self, height: u32, within: Duration) -> Result<(), LabError> {
        until_seen(&format!("{}'s view of height {height}", self.name()), within, async || {
            self.daemon.expect_running()?;
            let info = self.info().await?;
            Ok(match info.height >= height {
                true => Look::Seen(()),
                false => Look::NotYet(format!("height {}", info.height)),
            })
        })
        .await
    }

    /// Waits until it is connected to the hub, and the handshake is done.
    ///
    /// # Errors
    /// [`LabError`].
    pub async fn is_connected(&self, within: Duration) -> Result<(), LabError> {
        until_seen(&format!("the connection of {}", self.name()), within, async || {
            self.daemon.expect_running()?;
            let info = self.info().await?;
            Ok(if info.hub_connected { Look::Seen(()) } else { Look::NotYet(info.trouble) })
        })
        .await
    }

    /// Waits until it is connected and at least `count` of its channels can be used.
    ///
    /// # Errors
    /// [`LabError`].
    pub async fn is_usable(&self, count: usize, within: Duration) -> Result<(), LabError> {
        until_seen(&format!("{count} usable channels of {}", self.name()), within, async || {
            self.daemon.expect_running()?;
            let channels = self.channels().await?;
            let usable = channels.iter().filter(|channel| channel.usable).count();
            Ok(match usable >= count {
                true => Look::Seen(()),
                false => Look::NotYet(super::describe(&channels)),
            })
        })
        .await
    }
}

/// The arguments of `hubwallet init`.
pub fn init_arguments(folder: &Path, chain: &Chain, hub_address: &str, hub_key: &str) -> Vec<OsString> {
    Vec::from(arguments![
        "init",
        "--data-dir",
        folder,
        "--hub-address",
        hub_address,
        "--hub-node-key",
        hub_key,
        "--bitcoind-url",
        chain.url(),
        "--bitcoind-cookie",
        chain.cookie_file(),
        "--listen",
        "127.0.0.1:0",
    ])
}
