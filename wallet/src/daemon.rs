//! `hubwallet daemon`: everything together, from the data folder to the last snapshot.

use std::net::SocketAddr;
use std::path::Path;

use daemon::data_dir::{FolderError, write_public};
use daemon::token::Token;
use journal::{Headroom, Room};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::config::{self, ConfigError, Override};
use crate::connection::tls::TlsConnect;
use crate::connection::{Dialer, Status};
use crate::core::start::{StartError, start};
use crate::data_dir::{DataDir, DataDirError, PROGRAM};
use crate::seed;
use crate::service::{self, Service};

/// Bytes of a mebibyte.
const MIB: u64 = 1024 * 1024;

/// Why the daemon did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Start(#[from] Box<StartError>),
    #[error("{address} cannot be listened on: {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("signals cannot be waited for: {0}")]
    Signals(std::io::Error),
    #[error("stopped by a fault: {0}")]
    Fault(String),
}

impl From<FolderError> for DaemonError {
    fn from(error: FolderError) -> Self {
        DataDirError::from(error).into()
    }
}

/// Runs until SIGTERM, SIGINT, the `Stop` call or a fault. `overrides` take the place of the file's values. Where the log goes
/// is the caller's business.
pub async fn run(root: &Path, overrides: &[Override]) -> Result<(), DaemonError> {
    let data = DataDir::open(root)?;
    let layout = data.layout().clone();
    let seed = seed::load(&layout)?;
    let checked = config::load_with(&layout.config(), overrides)?;
    let token = Token::load_or_create(&layout.token(), &PROGRAM)?;
    let listener = TcpListener::bind(checked.listen).await;
    let listener = listener.map_err(|source| DaemonError::Listen { address: checked.listen, source })?;
    let address = listener.local_addr();
    let address = address.map_err(|source| DaemonError::Listen { address: checked.listen, source })?;

    let running = start(&checked, data, &seed.bytes()).await.map_err(Box::new)?;
    let (status, connection) = watch::channel(Status::default());
    let (stop, mut stopped) = watch::channel(false);
    let headroom = Headroom { minimum: checked.config.disk.headroom_mib.saturating_mul(MIB) };
    let room = Room::on_file_system(layout.root().to_owned(), headroom);
    let service = Service::new(running.handles.clone(), &checked, connection, stop.clone(), room);
    let serving = tokio::spawn(service::serve(listener, service, token, stop.subscribe()));
    write_public(&layout.address(), format!("{address}\n").as_bytes())?;
    tracing::info!(%address, node = %running.handles.signer.node_id(), "the wallet is running");
    let connect = TlsConnect { address: checked.config.hub.address.clone() };
    let dialer = Dialer::new(&running.handles, &checked, connect, status);
    let dialing = tokio::spawn(dialer.run_from_tip(running.handles.desk.clone()));

    let fault = wait_for_end(&running, &mut stopped).await?;
    stop.send_replace(true);
    dialing.abort();
    let _ = dialing.await;
    let _ = serving.await;
    let end = running.stop().await;
    let _ = std::fs::remove_file(layout.address());
    match (fault, end) {
        (true, Err(why)) => Err(DaemonError::Fault(why)),
        (true, Ok(())) => Err(DaemonError::Fault("a part of the daemon ended by itself".to_owned())),
        (false, Err(why)) => Err(DaemonError::Fault(why)),
        (false, Ok(())) => Ok(()),
    }
}

/// True for a fault, false when asked to stop.
async fn wait_for_end(
    running: &crate::core::start::Running,
    stopped: &mut watch::Receiver<bool>,
) -> Result<bool, DaemonError> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(DaemonError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DaemonError::Signals)?;
    loop {
        tokio::select! {
            biased;
            _ = terminate.recv() => return Ok(false),
            _ = interrupt.recv() => return Ok(false),
            _ = stopped.wait_for(|stopped| *stopped) => return Ok(false),
            () = tokio::time::sleep(std::time::Duration::from_millis(200)) => {
                if running.faulted() {
                    return Ok(true);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Answers;
    use crate::data_dir::Layout;
    use channel::seed_signer::SeedSigner;
    use channel::signer::Signer;

    /// A data folder whose bitcoind nobody answers for.
    fn folder() -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("wallet");
        let data = DataDir::open(&root).unwrap();
        seed::store(&daemon::seed::Seed::generate(), data.layout()).unwrap();
        // A port that was free a moment ago, and that nobody listens on.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let cookie = root.join("cookie");
        std::fs::write(&cookie, "__cookie__:x").unwrap();
        let text = config::write(&Answers {
            listen: "127.0.0.1:0".into(),
            hub_address: "127.0.0.1:1".into(),
            hub_node_key: SeedSigner::new(&[1; 64]).node_id().to_string(),
            bitcoind_url: format!("http://127.0.0.1:{port}"),
            bitcoind_cookie: cookie.display().to_string(),
        });
        write_public(&data.layout().config(), text.as_bytes()).unwrap();
        (folder, root)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_second_daemon_on_the_same_folder_is_refused_by_name() {
        let (_folder, root) = folder();
        let _first = DataDir::open(&root).unwrap();
        let error = run(&root, &[]).await.unwrap_err().to_string();
        assert!(error.contains("another process uses"), "{error}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_new_wallet_without_bitcoind_is_told_so_and_leaves_no_address() {
        let (_folder, root) = folder();
        let error = run(&root, &[]).await.unwrap_err();
        assert!(
            matches!(&error, DaemonError::Start(start) if matches!(**start, StartError::Bitcoind { .. })),
            "{error}"
        );
        assert!(!Layout::new(&root).address().exists());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_folder_without_a_wallet_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = run(&folder.path().join("none"), &[]).await.unwrap_err().to_string();
        assert!(error.contains("hubwallet init"), "{error}");
    }
}
