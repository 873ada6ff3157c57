//! The channel: `check` decides and changes nothing, `apply` changes and cannot fail.
//!
//! API sketch for those who code against it; the state machine's author fills it in.
//!
//! ```ignore
//! pub struct Input(..);                       // only `check` and `Input::decode` make one
//! impl Input { pub fn encode(&self, out: &mut Vec<u8>); pub fn decode(bytes: &[u8]) -> Result<Input, DecodeError>; }
//!
//! pub struct Context<'a> { pub policy: &'a Policy, pub height: u32, pub signer: &'a dyn Signer, pub router: &'a dyn Router }
//!
//! impl Channel {
//!     pub fn check_open(request: OpenRequest, ctx: &Context<'_>) -> Result<Input, Rejection>;
//!     pub fn check_accept(request: AcceptRequest, message: OpenChannel, ctx: &Context<'_>) -> Result<Input, Rejection>;
//!     pub fn from_first(input: &Input, effects: &mut Vec<Effect>) -> Result<Channel, NotAnOpening>;
//!     /// `Ok(None)`: nothing to do (a harmless repeat).
//!     pub fn check(&self, event: Event, ctx: &Context<'_>) -> Result<Option<Input>, Rejection>;
//!     pub fn apply(&mut self, input: &Input, effects: &mut Vec<Effect>);
//!     /// The input by which a violation fails the channel.
//!     pub fn violated(&self, violation: Violation) -> Input;
//!     /// At release: turn what an effect named into the message, signing with the signer. None if the state moved past it.
//!     pub fn message(&self, to_send: &ToSend, signer: &dyn Signer) -> Option<Message>;
//!     /// After replay: re-emit `Offer`s of unresolved incoming HTLCs and unacknowledged results, watches, funding broadcasts, ready tickets.
//!     pub fn resume(&self, effects: &mut Vec<Effect>);
//!     pub fn wants_to_sign(&self) -> bool;    // updates pending and no round under way
//!     pub fn encode_snapshot(&self) -> Vec<u8>;
//!     pub fn decode_snapshot(bytes: &[u8]) -> Result<Channel, DecodeError>;
//!     pub fn state_hash(&self) -> [u8; 32];
//!     pub fn view(&self) -> ChannelView;      // everything tables and RPCs show
//!     pub fn next_deadline(&self) -> Option<u32>;
//!     pub fn ticket(&self) -> Option<ReadyTicket>; // hub, frozen: all the settlement engine needs
//!     pub fn publish_job(&self, signer: &dyn Signer) -> Option<PublishJob>; // failed: our latest commitment, fully signed
//! }
//! ```
