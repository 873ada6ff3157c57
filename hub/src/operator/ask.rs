//! Questions and commands to shards from an async call, with a deadline.

use channel::channel::ChannelView;
use channel::event::Command;
use channel::ids::OwnerId;
use channel::keys::Point;
use proto::error::{ErrorCode, status};
use shard::{Answer, Mail, Query, Refused, Reply, ReplyTo};
use tokio::sync::oneshot;
use tonic::Status;

use crate::limits::CALL_TIMEOUT;
use crate::mailboxes::Mailboxes;

/// Waits for an answer that a thread promised.
pub async fn answered<T>(receiver: oneshot::Receiver<T>) -> Result<T, Status> {
    match tokio::time::timeout(CALL_TIMEOUT, receiver).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(status(ErrorCode::Stopping, "the hub is stopping")),
        Err(_) => {
            let text = format!("no answer within {} s; it may still come to pass", CALL_TIMEOUT.as_secs());
            Err(status(ErrorCode::StillUnderWay, text))
        }
    }
}

fn reply_channel() -> (ReplyTo, oneshot::Receiver<Reply>) {
    let (sender, receiver) = oneshot::channel();
    // A caller that left needs no answer.
    let reply = ReplyTo::new(move |reply| {
        let _ = sender.send(reply);
    });
    (reply, receiver)
}

/// Gives a channel a command; the answer comes once it is durable.
pub async fn command(
    mailboxes: &Mailboxes,
    owner: OwnerId,
    command: Command,
) -> Result<Result<(), Refused>, Status> {
    let (reply, receiver) = reply_channel();
    mailboxes.owner(owner, Mail::Command { owner, command, reply: Some(reply) });
    match answered(receiver).await? {
        Reply::Done | Reply::Opened { .. } | Reply::Answer(_) => Ok(Ok(())),
        Reply::Refused(refused) => Ok(Err(refused)),
    }
}

async fn read(mailboxes: &Mailboxes, shard: usize, query: Query) -> Result<Answer, Status> {
    let (reply, receiver) = reply_channel();
    mailboxes.shard(shard, Mail::Read { query, reply });
    match answered(receiver).await? {
        Reply::Answer(answer) => Ok(answer),
        Reply::Refused(refused) => Err(status(ErrorCode::Stopping, refused.to_string())),
        Reply::Done | Reply::Opened { .. } => Err(unexpected()),
    }
}

/// A shard answered another question than the one asked: our logic is broken.
fn unexpected() -> Status {
    status(ErrorCode::Fault, "a shard gave an answer of another kind")
}

/// One channel by its number.
pub async fn channel(mailboxes: &Mailboxes, owner: OwnerId) -> Result<Option<Box<ChannelView>>, Status> {
    let shard = mailboxes.placement().shard_of(owner);
    match read(mailboxes, shard, Query::Channel(owner)).await? {
        Answer::Channel(view) => Ok(view),
        Answer::Channels { .. } | Answer::PublishJob(_) => Err(unexpected()),
    }
}

/// A page of one shard's channels and whether there are more.
pub async fn shard_channels(
    mailboxes: &Mailboxes,
    shard: usize,
    node: Option<Point>,
    after: Option<OwnerId>,
    max: usize,
) -> Result<(Vec<ChannelView>, Option<OwnerId>), Status> {
    match read(mailboxes, shard, Query::Channels { node, after, max }).await? {
        Answer::Channels { channels, more } => Ok((channels, more)),
        Answer::Channel(_) | Answer::PublishJob(_) => Err(unexpected()),
    }
}

/// Looks at every channel once, of one node if it is named, shard by shard.
pub async fn every_channel(
    mailboxes: &Mailboxes,
    node: Option<Point>,
    mut see: impl FnMut(&ChannelView),
) -> Result<(), Status> {
    for shard in 0..mailboxes.shards() {
        let mut after = None;
        loop {
            let max = shard::limits::MAX_PAGE;
            let (channels, more) = shard_channels(mailboxes, shard, node, after, max).await?;
            channels.iter().for_each(&mut see);
            match more {
                Some(last) => after = Some(last),
                None => break,
            }
        }
    }
    Ok(())
}
