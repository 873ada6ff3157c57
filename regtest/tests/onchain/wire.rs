//! A wire between wallets and their hub that carries so many pieces and then no more, so that both can be killed exactly there.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

/// More than one message of either side here.
const PIECE_BYTES: usize = 64 * 1024;

pub struct Wire {
    address: SocketAddr,
    left: Arc<Semaphore>,
    carrying: JoinHandle<()>,
}

impl Wire {
    /// Leads to the hub, and carries this many pieces, whoever sends them: what arrives at once is one.
    pub async fn to(hub: SocketAddr, pieces: usize) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let left = Arc::new(Semaphore::new(pieces));
        let carrying = tokio::spawn(carry_all(listener, hub, Arc::clone(&left)));
        Wire { address, left, carrying }
    }

    /// What a wallet is to be told of its hub's address.
    pub fn setting(&self) -> String {
        format!("hub.address={}", self.address)
    }

    /// Whether it carries no more.
    pub fn is_used_up(&self) -> bool {
        self.left.available_permits() == 0
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.carrying.abort();
    }
}

async fn carry_all(listener: TcpListener, hub: SocketAddr, left: Arc<Semaphore>) {
    let mut carrying = JoinSet::new();
    while let Ok((wallet, _)) = listener.accept().await {
        // The hub may be down; then the wallet finds nobody.
        let Ok(hub) = TcpStream::connect(hub).await else { continue };
        let ((from_wallet, to_wallet), (from_hub, to_hub)) = (wallet.into_split(), hub.into_split());
        carrying.spawn(carry(from_wallet, to_hub, Arc::clone(&left)));
        carrying.spawn(carry(from_hub, to_wallet, Arc::clone(&left)));
    }
}

/// Until either end is gone.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, left: Arc<Semaphore>) {
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        let Ok(permit) = left.acquire().await else { return };
        permit.forget();
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}
