//! The main job, told as a story on a real chain: channels opened, payments forwarded, micropayments streamed, the hub killed
//! in the middle and restarted, everything closed by tickets, and every coin accounted for.
//!
//! The demo keeps books of its own ([`books`]) of what was acknowledged to it, and compares them with the channels' balances
//! to the millisatoshi; the auditor then compares those with the chain. Any difference is a broken promise, by name.

mod books;
mod progress;
mod story;
mod table;

pub use books::Books;
pub use progress::Progress;
pub use story::{Story, tell};
pub use table::Summary;
