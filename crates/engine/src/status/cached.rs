//! An answer that is computed once for all callers at about the same time.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// The last answer, up to a maximum age. A caller that asks while it is being computed waits for
/// it.
pub(crate) struct Cached<T> {
    last: Mutex<Option<(Instant, T)>>,
    age_max: Duration,
}

impl<T: Clone> Cached<T> {
    pub(crate) fn new(age_max: Duration) -> Cached<T> {
        Cached { last: Mutex::new(None), age_max }
    }

    /// An answer that was finished at most `age_max` ago; `work` is begun if there is none. If a
    /// caller stops waiting, the next one begins the work again.
    pub(crate) async fn get(&self, work: impl Future<Output = T>) -> T {
        let mut last = self.last.lock().await;
        if let Some((finished, answer)) = &*last
            && finished.elapsed() < self.age_max
        {
            return answer.clone();
        }
        let answer = work.await;
        *last = Some((Instant::now(), answer.clone()));
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::task::{Context, Waker};

    use super::*;

    /// Goal: a crowd that asks at once, or within the answer's age, costs one answer; if a caller
    /// gives up half way, the next one does the work. Method: counted work that waits once.
    #[tokio::test]
    async fn a_crowd_costs_one_answer() {
        let begun = Cell::new(0);
        let work = || async {
            begun.set(begun.get() + 1);
            tokio::task::yield_now().await;
            begun.get()
        };
        let cached = Cached::new(Duration::MAX);
        let mut gives_up = Box::pin(cached.get(work()));
        let first = gives_up.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(first.is_pending());
        drop(gives_up);
        let crowd = tokio::join!(cached.get(work()), cached.get(work()), cached.get(work()));
        assert_eq!(crowd, (2, 2, 2));
        assert_eq!(cached.get(work()).await, 2);
    }

    /// Goal: an answer past its age is computed again. Method: the shortest age that there is.
    #[tokio::test]
    async fn an_old_answer_is_not_told_again() {
        let (cached, begun) = (Cached::new(Duration::ZERO), Cell::new(0));
        for expected in 1..4 {
            let work = async {
                begun.set(begun.get() + 1);
                begun.get()
            };
            assert_eq!(cached.get(work).await, expected);
        }
    }
}
