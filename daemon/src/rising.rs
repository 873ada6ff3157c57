//! A value that only rises, and those who wait for it: how far the disk has come, which event is next.
//!
//! Whoever waited first is woken first, in every run. (`tokio::sync::watch` wakes its waiters in an order that it draws.)

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The one who raises the value. Dropped, it ends all waiting.
#[derive(Debug)]
pub struct Raise<T>(Arc<Shared<T>>);

/// Those who wait for it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Rising<T>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    raised: Notify,
}

#[derive(Debug)]
struct State<T> {
    value: T,
    ended: bool,
}

/// Nobody raises the value any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody raises it any more")]
pub struct Ended;

/// A value that begins at `start`.
pub fn rising<T: Copy + Ord>(start: T) -> (Raise<T>, Rising<T>) {
    let state = Mutex::new(State { value: start, ended: false });
    let shared = Arc::new(Shared { state, raised: Notify::new() });
    (Raise(Arc::clone(&shared)), Rising(shared))
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Copy + Ord> Raise<T> {
    /// Raises the value to at least `to`, and wakes those who waited for it.
    pub fn raise(&self, to: T) {
        {
            let mut state = self.0.lock();
            if to <= state.value {
                return;
            }
            state.value = to;
        }
        self.0.raised.notify_waiters();
    }
}

impl<T> Drop for Raise<T> {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.raised.notify_waiters();
    }
}

impl<T: Copy + Ord> Rising<T> {
    /// The value now.
    pub fn now(&self) -> T {
        self.0.lock().value
    }

    /// Waits until the value is `least` or more; gives it.
    ///
    /// # Errors
    ///
    /// [`Ended`]: it is lower, and will stay so.
    pub async fn reaches(&self, least: T) -> Result<T, Ended> {
        self.is(|value| value >= least).await
    }

    /// Waits until the value is more than `than`; gives it.
    ///
    /// # Errors
    ///
    /// As [`Rising::reaches`].
    pub async fn above(&self, than: T) -> Result<T, Ended> {
        self.is(|value| value > than).await
    }

    async fn is(&self, enough: impl Fn(T) -> bool) -> Result<T, Ended> {
        loop {
            // Before the look, so that no rise between the two is missed.
            let raised = self.0.raised.notified();
            {
                let state = self.0.lock();
                if enough(state.value) {
                    return Ok(state.value);
                }
                if state.ended {
                    return Err(Ended);
                }
            }
            raised.await;
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
