//! Exhaustive walks through forwards between channels (DESIGN section 7): every order of messages, signatures, fsyncs,
//! crashes, disconnections and heights within small bounds.
//!
//! | module | what |
//! | --- | --- |
//! | [`walk`] | visits every state of a model once, and tells the shortest way to a broken law |
//! | [`rules`] | the rules of a forward, abstract: each is needed |
//! | [`real`] | the same with the code itself: it obeys them |
//! | [`pair`] | two ends of one real channel, opened |
//! | [`limits`] | how far, and why no farther |

pub mod limits;
pub mod pair;
pub mod real;
pub mod rules;
pub mod walk;
