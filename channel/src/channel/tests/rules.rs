//! How a rule is tested: one valid thing, one thing changed, the exact error, the state unmoved. And every
//! rule has its case.

use super::pair::End;
use crate::channel::PhaseView;
use crate::error::Rejection;
use crate::event::Event;

/// One rule, tried at one end.
pub(super) struct Case {
    pub(super) end: End,
    /// What keeps the rule; it is accepted in the same state.
    pub(super) valid: Event,
    /// Between the two; for rules that look at height or policy.
    pub(super) change: fn(&mut End),
    /// The same with one thing changed.
    pub(super) broken: Event,
    pub(super) expected: Rejection,
}

impl Case {
    pub(super) fn new(end: End, valid: Event, broken: Event, expected: impl Into<Rejection>) -> Self {
        Self { end, valid, change: |_| {}, broken, expected: expected.into() }
    }

    pub(super) fn run(mut self) {
        let before = self.end.channel().state_hash();
        let valid = self.end.channel().check(self.valid, &self.end.context());
        assert!(valid.is_ok(), "the valid thing for {:?}: {valid:?}", self.expected);
        (self.change)(&mut self.end);
        let result = self.end.channel().check(self.broken.clone(), &self.end.context());
        assert_eq!(result, Err(self.expected.clone()));
        assert_eq!(self.end.channel().state_hash(), before, "a refusal leaves no trace");
        if let Rejection::Violation(violation) = self.expected {
            self.end.host(self.broken).unwrap_err();
            let opening = matches!(self.end.channel().phase(), PhaseView::Aborted { .. });
            let failed = matches!(self.end.channel().phase(), PhaseView::Failed { .. });
            assert!(opening || failed, "{violation} ends the channel");
            assert_eq!(failed, self.end.channel().publish_job(&self.end.signer).is_some());
        }
    }
}

/// Declares the names of all variants of an error; a variant that is missing here does not compile.
macro_rules! variants {
    ($name:ident, $all:ident, $type:ident, [$($variant:ident),* $(,)?]) => {
        const $all: &[&str] = &[$(stringify!($variant)),*];

        pub(super) fn $name(value: &$type) -> &'static str {
            match value {
                $($type::$variant { .. } => stringify!($variant),)*
            }
        }
    };
}
pub(super) use variants;

/// Every rule has a case.
pub(super) fn assert_complete(all: &[&str], mut found: Vec<&str>) {
    found.sort_unstable();
    found.dedup();
    let missing: Vec<_> = all.iter().filter(|name| !found.contains(name)).collect();
    assert!(missing.is_empty(), "no case for {missing:?}");
}
