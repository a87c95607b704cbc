//! Many futures in one task, each polled only when it was woken.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;

/// A future on its way to a `T`.
pub type Task<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Futures that run inside one task.
///
/// A wake-up notes its future and wakes the task once per batch, so a task with a thousand futures
/// of which ten were woken polls ten. Places and their wakers are reused.
pub struct TaskSet<T> {
    places: Vec<Place<T>>,
    free: Vec<usize>,
    woken: Arc<Woken>,
    /// Emptied and swapped with the list of the woken.
    batch: Vec<usize>,
}

struct Place<T> {
    task: Option<Task<T>>,
    flag: Arc<Flag>,
    waker: Waker,
}

#[derive(Default)]
struct Woken(Mutex<WokenState>);

#[derive(Default)]
struct WokenState {
    places: Vec<usize>,
    parent: Option<Waker>,
}

struct Flag {
    place: usize,
    listed: AtomicBool,
    woken: Arc<Woken>,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.listed.swap(true, Ordering::AcqRel) {
            return;
        }
        let parent = {
            let mut state = self.woken.0.lock();
            state.places.push(self.place);
            state.parent.take()
        };
        if let Some(parent) = parent {
            parent.wake();
        }
    }
}

/// How [`TaskSet::start`] left a future.
#[derive(Debug)]
pub enum Started<T> {
    /// It had its value at once.
    Done(T),
    /// It runs at this place, and will be reported by [`TaskSet::poll_done`].
    Running(usize),
}

impl<T> Default for TaskSet<T> {
    fn default() -> TaskSet<T> {
        TaskSet { places: Vec::new(), free: Vec::new(), woken: Arc::default(), batch: Vec::new() }
    }
}

impl<T> TaskSet<T> {
    /// Adds a future and polls it for the first time.
    pub fn start(&mut self, task: Task<T>) -> Started<T> {
        let number = self.free.pop().unwrap_or_else(|| self.add_place());
        let place = &mut self.places[number];
        place.task = Some(task);
        match place.poll() {
            Poll::Ready(value) => {
                self.free.push(number);
                Started::Done(value)
            }
            Poll::Pending => Started::Running(number),
        }
    }

    /// How many futures run.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// True if no future runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Polls the woken futures, appends finished values to `done`, and arranges that the task of
    /// `context` is woken for the rest.
    ///
    /// One batch per call: a future that wakes itself, as tokio's do when their task has had its
    /// share, is polled in the task's next turn.
    pub fn poll_done(&mut self, context: &mut Context<'_>, done: &mut Vec<(usize, T)>) {
        let mut batch = std::mem::take(&mut self.batch);
        std::mem::swap(&mut batch, &mut self.woken.0.lock().places);
        for number in batch.drain(..) {
            let place = &mut self.places[number];
            // Cleared before the poll: a wake-up during it must be listed again.
            place.flag.listed.store(false, Ordering::Release);
            if place.task.is_some()
                && let Poll::Ready(value) = place.poll()
            {
                self.free.push(number);
                done.push((number, value));
            }
        }
        self.batch = batch;
        let mut state = self.woken.0.lock();
        state.parent = Some(context.waker().clone());
        if !state.places.is_empty() {
            drop(state);
            context.waker().wake_by_ref();
        }
    }

    fn add_place(&mut self) -> usize {
        let place = self.places.len();
        let listed = AtomicBool::new(false);
        let flag = Arc::new(Flag { place, listed, woken: Arc::clone(&self.woken) });
        let waker = Waker::from(Arc::clone(&flag));
        self.places.push(Place { task: None, flag, waker });
        place
    }
}

impl<T> Place<T> {
    fn poll(&mut self) -> Poll<T> {
        let task = self.task.as_mut().expect("a place is polled while its future runs");
        let polled = task.as_mut().poll(&mut Context::from_waker(&self.waker));
        if polled.is_ready() {
            self.task = None;
        }
        polled
    }
}

/// Runs `tasks`, at most `width` at once; returns their values in their order.
///
/// # Panics
/// If `width` is 0.
pub async fn run_all<T>(tasks: Vec<Task<T>>, width: usize) -> Vec<T> {
    assert!(width > 0, "nothing would ever run");
    let mut values: Vec<Option<T>> = tasks.iter().map(|_| None).collect();
    let mut waiting = tasks.into_iter().enumerate();
    let mut set = TaskSet::default();
    let mut owners = Vec::new();
    let mut done = Vec::new();
    poll_fn(|context| {
        loop {
            set.poll_done(context, &mut done);
            for (place, value) in done.drain(..) {
                let owner: usize = owners[place];
                values[owner] = Some(value);
            }
            let mut finished_at_once = false;
            while set.len() < width {
                let Some((owner, task)) = waiting.next() else { break };
                match set.start(task) {
                    Started::Done(value) => {
                        values[owner] = Some(value);
                        finished_at_once = true;
                    }
                    Started::Running(place) => {
                        owners.resize(owners.len().max(place + 1), 0);
                        owners[place] = owner;
                    }
                }
            }
            if set.is_empty() {
                return Poll::Ready(());
            }
            if !finished_at_once {
                return Poll::Pending;
            }
        }
    })
    .await;
    values.into_iter().map(|value| value.expect("every task was run")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
    }

    /// Goal: order and width hold, whatever the order of completion. Method: tasks that yield a
    /// different number of times and count how many run beside them.
    #[test]
    fn values_come_in_order_and_width_holds() {
        let running = Arc::new(Mutex::new((0, 0)));
        let tasks = (0..500usize)
            .map(|number| {
                let running = Arc::clone(&running);
                Box::pin(async move {
                    {
                        let mut running = running.lock();
                        running.0 += 1;
                        running.1 = running.1.max(running.0);
                    }
                    for _ in 0..number * 7 % 5 {
                        tokio::task::yield_now().await;
                    }
                    running.lock().0 -= 1;
                    number
                }) as Task<usize>
            })
            .collect();
        let values = runtime().block_on(run_all(tasks, 16));
        assert!(values.iter().copied().eq(0..500));
        let (left, most) = *running.lock();
        assert_eq!(left, 0);
        assert!((1..=16).contains(&most), "{most} ran at once");
    }

    /// Goal: values sent from other threads are never missed. Method: many one-shot channels.
    #[test]
    fn wake_ups_of_other_threads_arrive() {
        let (senders, tasks): (Vec<_>, Vec<_>) = (0..2_000)
            .map(|_| {
                let (sender, receiver) = tokio::sync::oneshot::channel();
                (sender, Box::pin(async move { receiver.await.expect("sent") }) as Task<usize>)
            })
            .unzip();
        let sending = std::thread::spawn(move || {
            for (number, sender) in senders.into_iter().enumerate().rev() {
                sender.send(number).expect("awaited");
            }
        });
        let values = runtime().block_on(run_all(tasks, 2_000));
        assert!(values.into_iter().eq(0..2_000));
        sending.join().expect("ends");
    }
}
