//! A value that only rises, and those who wait for it: how far the disk has come, which event is next.
//!
//! Whoever waited first is woken first, in every run. (`tokio::sync::watch` wakes its waiters in an order that it draws.)

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The one who raises the value. Dropped, it ends all waiting.
#[derive(Debug)]
pub struct Raise<T>(Arc<Mutex<State<T>>>);

/// Those who wait for it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Rising<T>(Arc<Mutex<State<T>>>);

#[derive(Debug)]
struct State<T> {
    value: T,
    ended: bool,
    /// By the order in which they came.
    waiting: BTreeMap<u64, Waker>,
    next: u64,
}

/// Nobody raises the value any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody raises it any more")]
pub struct Ended;

/// A value that begins at `start`.
pub fn rising<T: Copy + Ord>(start: T) -> (Raise<T>, Rising<T>) {
    let state = State { value: start, ended: false, waiting: BTreeMap::new(), next: 0 };
    let state = Arc::new(Mutex::new(state));
    (Raise(Arc::clone(&state)), Rising(state))
}

/// Every change under the lock is whole, so a panic elsewhere leaves the state whole.
fn lock<T>(state: &Mutex<State<T>>) -> MutexGuard<'_, State<T>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wake<T>(mut state: MutexGuard<'_, State<T>>) {
    let waiting = std::mem::take(&mut state.waiting);
    drop(state);
    waiting.into_values().for_each(Waker::wake);
}

impl<T: Copy + Ord> Raise<T> {
    /// Raises the value to at least `to`, and wakes those who waited for it.
    pub fn raise(&self, to: T) {
        let mut state = lock(&self.0);
        if to > state.value {
            state.value = to;
            wake(state);
        }
    }
}

impl<T> Drop for Raise<T> {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.ended = true;
        wake(state);
    }
}

impl<T: Copy + Ord + Unpin> Rising<T> {
    /// The value now.
    pub fn now(&self) -> T {
        lock(&self.0).value
    }

    /// Waits until the value is `least` or more; gives it.
    ///
    /// # Errors
    ///
    /// [`Ended`]: it is lower, and will stay so.
    pub fn reaches(&self, least: T) -> impl Future<Output = Result<T, Ended>> + '_ {
        Wait { state: &self.0, enough: move |value| value >= least, place: None }
    }

    /// Waits until the value is more than `than`; gives it.
    ///
    /// # Errors
    ///
    /// As [`Rising::reaches`].
    pub fn above(&self, than: T) -> impl Future<Output = Result<T, Ended>> + '_ {
        Wait { state: &self.0, enough: move |value| value > than, place: None }
    }
}

/// Somebody who waits. Dropped, it waits no longer.
struct Wait<'a, T, F> {
    state: &'a Mutex<State<T>>,
    enough: F,
    /// Among those who wait; it is kept until it is over.
    place: Option<u64>,
}

impl<T: Copy, F: Fn(T) -> bool + Unpin> Future for Wait<'_, T, F> {
    type Output = Result<T, Ended>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let wait = self.get_mut();
        let mut state = lock(wait.state);
        if (wait.enough)(state.value) {
            return Poll::Ready(Ok(state.value));
        }
        if state.ended {
            return Poll::Ready(Err(Ended));
        }
        let place = *wait.place.get_or_insert(state.next);
        state.next = state.next.max(place + 1);
        state.waiting.insert(place, context.waker().clone());
        Poll::Pending
    }
}

impl<T, F> Drop for Wait<'_, T, F> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            lock(self.state).waiting.remove(&place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waits_hears_of_the_rise_and_of_its_end() {
        let (raise, rising) = rising(1u64);
        assert_eq!(rising.reaches(1).await, Ok(1));
        let waiting = tokio::spawn({
            let rising = rising.clone();
            async move { (rising.above(1).await, rising.reaches(9).await) }
        });
        tokio::task::yield_now().await;
        raise.raise(5);
        // Never down again.
        raise.raise(2);
        assert_eq!(rising.now(), 5);
        tokio::task::yield_now().await;
        drop(raise);
        assert_eq!(waiting.await.unwrap(), (Ok(5), Err(Ended)));
        assert_eq!(rising.reaches(5).await, Ok(5));
    }

    #[tokio::test]
    async fn who_gave_up_waiting_leaves_nothing_behind() {
        let (raise, rising) = rising(0u64);
        for _ in 0..3 {
            let waited = tokio::time::timeout(std::time::Duration::ZERO, rising.above(0)).await;
            assert!(waited.is_err());
        }
        assert!(lock(&raise.0).waiting.is_empty());
    }

    #[tokio::test]
    async fn who_waited_first_is_woken_first() {
        for _ in 0..20 {
            let (raise, rising) = rising(0u64);
            let order = Arc::new(Mutex::new(Vec::new()));
            let waiting: Vec<_> = (0..10)
                .map(|number| {
                    let (rising, order) = (rising.clone(), Arc::clone(&order));
                    tokio::spawn(async move {
                        rising.above(0).await.unwrap();
                        order.lock().unwrap().push(number);
                    })
                })
                .collect();
            tokio::task::yield_now().await;
            raise.raise(1);
            for task in waiting {
                task.await.unwrap();
            }
            assert_eq!(*order.lock().unwrap(), (0..10).collect::<Vec<_>>());
        }
    }
}
