//! What waits for the disk. Invariant: nothing is handed out before the position it was pushed with is durable, and
//! everything is handed out in the order in which it was pushed.

use std::collections::VecDeque;

use journal::Position;

/// A queue of things that may leave the process once their position is durable.
#[derive(Debug)]
pub struct Outbox<T> {
    waiting: VecDeque<(Position, T)>,
    newest: Position,
}

impl<T> Default for Outbox<T> {
    fn default() -> Self {
        Outbox { waiting: VecDeque::new(), newest: Position::default() }
    }
}

impl<T> Outbox<T> {
    pub fn new() -> Self {
        Self::default()
    }

    /// Queues `item` until `position` is durable. An item behind one with a later position waits for that one too:
    /// order is kept, so a position that went back is raised.
    pub fn push(&mut self, position: Position, item: T) {
        self.newest = self.newest.max(position);
        self.waiting.push_back((self.newest, item));
    }

    /// The next item that may leave, now that everything up to `durable` is on the disk.
    pub fn pop(&mut self, durable: Position) -> Option<T> {
        if self.waiting.front()?.0 > durable {
            return None;
        }
        self.waiting.pop_front().map(|(_, item)| item)
    }

    /// Takes everything that may leave, in order. What is not taken from the iterator stays queued.
    pub fn release(&mut self, durable: Position) -> impl Iterator<Item = T> + '_ {
        std::iter::from_fn(move || self.pop(durable))
    }

    /// Items that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_before_its_position_is_durable() {
        let mut outbox = Outbox::new();
        outbox.push(Position(1), "a");
        outbox.push(Position(2), "b");
        outbox.push(Position(2), "c");
        assert_eq!(outbox.pop(Position(0)), None);
        assert_eq!(outbox.release(Position(1)).collect::<Vec<_>>(), ["a"]);
        assert_eq!(outbox.len(), 2);
        assert_eq!(outbox.release(Position(9)).collect::<Vec<_>>(), ["b", "c"]);
        assert!(outbox.is_empty());
    }

    #[test]
    fn an_item_never_overtakes_one_that_waits_for_a_later_position() {
        let mut outbox = Outbox::new();
        outbox.push(Position(5), "late");
        outbox.push(Position(3), "early");
        assert_eq!(outbox.release(Position(4)).count(), 0);
        assert_eq!(outbox.release(Position(5)).collect::<Vec<_>>(), ["late", "early"]);
    }
}
