//! The clean stop. Each step finds the parts it needs still working; at the end the journal holds snapshots only.

use shard::Mail;
use tracing::{info, warn};

use crate::control::ControlMail;
use crate::limits::{DRAIN_TIMEOUT, STOP_TIMEOUT};
use crate::stop::{Exit, Failed};
use crate::threads::Who;

use super::{Hub, wait_end};

impl Hub {
    pub(super) async fn stop(mut self) -> Result<(), Failed> {
        info!("stopping: sessions are closed, snapshots taken");
        self.shared.sessions.stop();
        self.cancel.cancel();
        self.listeners.drain(DRAIN_TIMEOUT).await;
        // The desk's last rows and snapshot need the shards and the journal.
        match tokio::time::timeout(STOP_TIMEOUT, self.desk.stop()).await {
            Ok(_) => wait_end(&mut self.ends, |who| who == Who::Desk, 1, STOP_TIMEOUT).await?,
            Err(_) => return Err(Failed::new(Exit::Fault, "the settlement desk did not stop in time")),
        };
        self.shared.mailboxes.every_shard(|| Mail::Stop);
        let shards = self.shared.mailboxes.shards();
        wait_end(&mut self.ends, |who| matches!(who, Who::Shard(_)), shards, STOP_TIMEOUT).await?;
        self.shared.mailboxes.control(ControlMail::Stop);
        wait_end(&mut self.ends, |who| who == Who::Control, 1, STOP_TIMEOUT).await?;
        self.shared.log.close();
        let rows_left = wait_end(&mut self.ends, |who| who == Who::Journal, 1, STOP_TIMEOUT).await?;
        let _ = self.summing.await;
        match rows_left {
            Some(0) | None => info!("stopped: the journal holds snapshots only"),
            Some(rows) => warn!(rows, "stopped: some rows are left in the journal and will be replayed"),
        }
        Ok(())
    }
}
