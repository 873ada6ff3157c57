//! Repeats of a request find what the first one made (DESIGN 10.7).

use proto::request_id::RequestId;

use super::entry::Entry;
use super::state::{Made, Request};
use super::{Ledger, LedgerRefusal};
use crate::limits;

/// A request's id and the hash of what it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    pub id: RequestId,
    pub body: [u8; 32],
}

impl Ledger {
    /// What the same request made before. `Ok(None)`: it is new, or carries no id.
    pub fn repeated(&self, asked: Option<&Asked>) -> Result<Option<Made>, LedgerRefusal> {
        let Some(asked) = asked else { return Ok(None) };
        match self.state.requests.get(&asked.id.0) {
            None if self.state.requests.len() >= limits::MAX_REQUESTS => {
                Err(LedgerRefusal::Full { what: "requests remembered", limit: limits::MAX_REQUESTS })
            }
            None => Ok(None),
            Some(request) if request.body == asked.body => Ok(Some(request.made.clone())),
            Some(_) => Err(LedgerRefusal::RequestIdReused),
        }
    }

    /// Remembers what a request made; rides in the same row as what it made.
    pub fn note(&mut self, asked: Option<&Asked>, made: Made) {
        if let Some(asked) = asked {
            let request = Request { body: asked.body, made };
            self.record(&Entry::RequestNoted { id: asked.id.0, request });
        }
    }

    /// The request was refused after all, and refusals are not remembered.
    pub fn forget(&mut self, asked: Option<&Asked>) {
        if let Some(asked) = asked
            && self.state.requests.contains_key(&asked.id.0)
        {
            self.record(&Entry::RequestForgotten { id: asked.id.0 });
        }
    }
}
