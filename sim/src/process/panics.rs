//! Panics on this thread, counted: a runtime swallows those of its tasks.

use std::cell::{Cell, RefCell};
use std::panic;
use std::sync::Once;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Counts from now on. What happened at a panic before still happens.
pub(super) fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            COUNT.set(COUNT.get() + 1);
            LAST.replace(info.to_string());
            before(info);
        }));
    });
}

/// How many there were on this thread.
pub(super) fn count() -> u64 {
    COUNT.get()
}

/// The words of the last one.
pub(super) fn last() -> String {
    LAST.with_borrow(String::clone)
}
