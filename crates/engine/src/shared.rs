//! An answer that is worked out once for all who ask at about the same time.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// The last answer, for as long as it is young. Who asks while another works it out waits for that.
pub(crate) struct Shared<T> {
    last: Mutex<Option<(Instant, T)>>,
    age_max: Duration,
}

impl<T: Clone> Shared<T> {
    pub(crate) fn new(age_max: Duration) -> Shared<T> {
        Shared { last: Mutex::new(None), age_max }
    }

    /// An answer that was finished at most `age_max` ago; `work` is begun if there is none. Whoever
    /// stops waiting leaves the work to the next one.
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

    use super::*;

    const AGE_MAX: Duration = Duration::from_secs(1);

    /// Goal: a crowd that asks at once costs one answer, and so does everybody within its age; then
    /// it is worked out anew, also after one who gave up half way. Method: counted work on a clock
    /// that the test moves.
    #[tokio::test(start_paused = true)]
    async fn a_crowd_costs_one_answer() {
        let shared = Shared::new(AGE_MAX);
        let begun = Cell::new(0);
        let work = || async {
            begun.set(begun.get() + 1);
            tokio::time::sleep(Duration::from_millis(10)).await;
            begun.get()
        };
        let (first, second, third) =
            tokio::join!(shared.get(work()), shared.get(work()), shared.get(work()));
        assert_eq!((first, second, third), (1, 1, 1));
        tokio::time::advance(AGE_MAX - Duration::from_millis(1)).await;
        assert_eq!(shared.get(work()).await, 1);
        tokio::time::advance(Duration::from_millis(1)).await;
        let gave_up = tokio::time::timeout(Duration::from_millis(5), shared.get(work())).await;
        assert!(gave_up.is_err());
        assert_eq!(shared.get(work()).await, 3);
    }
}
