//! Which events can meet which phases of a channel.

use channel::channel::Channel;
use channel::event::Event;

use crate::chronicle::Pair;

/// Pairs that no run can reach, and why. None is ruled out yet, so what counts as reachable is more than what is.
const UNREACHABLE: &[(&str, &[(&str, &str)])] = &[];

/// Whether some run could reach the pair.
pub fn is_reachable((phase, event): Pair) -> bool {
    !UNREACHABLE.iter().any(|(of, events)| *of == phase && events.iter().any(|(name, _)| *name == event))
}

/// Every pair that can be reached.
pub fn reachable() -> impl Iterator<Item = Pair> {
    Channel::PHASES
        .into_iter()
        .flat_map(|phase| Event::NAMES.into_iter().map(move |event| (phase, event)))
        .filter(|pair| is_reachable(*pair))
}
