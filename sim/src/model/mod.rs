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

use walk::Report;

/// Every walk of the ordinary tests, or (`larger`) all that take minutes too, with names; each is told to `done` as it ends.
pub fn explore(larger: bool, mut done: impl FnMut(&str, &Report)) -> Result<(), String> {
    let bounds = if larger { rules::Bounds::LARGE } else { rules::Bounds::SMALL };
    done("the rules", &rules::explore(bounds, None));
    let more = if larger { &real::Bounds::LARGER[..] } else { &[] };
    for (name, bounds) in real::Bounds::ORDINARY.iter().chain(more) {
        done(name, &real::explore(*bounds)?);
    }
    Ok(())
}
