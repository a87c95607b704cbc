//! Runs tasks so that their panics are reported.
//!
//! A runtime hides a panic until the task is joined, and most tasks here are joined only at the
//! stop. A dialer that died unnoticed would leave its link dead for good while everything else
//! looks healthy. So every task of the transport, and every one that the QUIC library starts, runs
//! under [`guarded`], which calls [`Receiver::handle_task_died`].

use std::future::poll_fn;
use std::io;
use std::net::UdpSocket;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, TokioRuntime};

use crate::receiver::Receiver;

/// Runs `body`. If it panics, calls `report` with the panic's message and returns the result.
/// `report` runs before anything that `body` holds is dropped, so it runs even if a drop panics,
/// too.
pub async fn catch_panic<T>(body: impl Future<Output = T>, report: impl FnOnce(String) -> T) -> T {
    let mut body = pin!(body);
    let mut report = Some(report);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| body.as_mut().poll(context))) {
        Ok(polled) => polled,
        Err(panic) => {
            let report = report.take().expect("a future that has ended is not polled again");
            Poll::Ready(report(panic_text(&*panic)))
        }
    })
    .await
}

/// The message of a panic.
#[must_use]
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("without a message").to_owned()
}

/// Runs `body` as the task `name`; a panic is reported to `receiver`, and the task then returns
/// `otherwise` of the panic's message.
pub(crate) async fn guarded<T>(
    receiver: Arc<dyn Receiver>,
    name: &'static str,
    body: impl Future<Output = T>,
    otherwise: impl FnOnce(String) -> T,
) -> T {
    catch_panic(body, |message| {
        receiver.handle_task_died(name, &message);
        otherwise(message)
    })
    .await
}

/// Calls `ask` with the receiver on a thread that may block. A panic is reported to the receiver.
/// The error is that panic, or a runtime that shuts down.
pub(crate) async fn ask_blocking<T: Send + 'static>(
    receiver: &Arc<dyn Receiver>,
    name: &'static str,
    ask: impl FnOnce(&dyn Receiver) -> T + Send + 'static,
) -> Result<T, String> {
    let receiver = Arc::clone(receiver);
    let asking = move || {
        catch_unwind(AssertUnwindSafe(|| ask(&*receiver))).map_err(|panic| {
            let message = panic_text(&*panic);
            receiver.handle_task_died(name, &message);
            message
        })
    };
    tokio::task::spawn_blocking(asking).await.map_err(|error| error.to_string())?
}

/// The QUIC library's access to tokio, which guards the library's tasks.
pub(crate) struct GuardedRuntime {
    receiver: Arc<dyn Receiver>,
}

impl GuardedRuntime {
    pub(crate) fn new(receiver: Arc<dyn Receiver>) -> GuardedRuntime {
        GuardedRuntime { receiver }
    }
}

impl std::fmt::Debug for GuardedRuntime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GuardedRuntime")
    }
}

impl Runtime for GuardedRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        TokioRuntime.spawn(Box::pin(guarded(self.receiver.clone(), "QUIC", future, drop)));
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.expect("a runtime").block_on(future)
    }

    /// Goal: a panic in any step of a future is told with its words, and no panic changes nothing.
    /// Method: futures that panic in their first and in a later step, with each kind of payload.
    #[test]
    fn panics_are_told_in_their_own_words() {
        fn told(body: impl Future<Output = Result<u8, String>>) -> Result<u8, String> {
            block_on(catch_panic(body, Err))
        }
        assert_eq!(told(async { Ok(7) }), Ok(7));
        assert_eq!(told(async { panic!("at {}", "once") }), Err("at once".to_owned()));
        let later = async {
            tokio::task::yield_now().await;
            panic!("later")
        };
        assert_eq!(told(later), Err("later".to_owned()));
        let strange = async { std::panic::panic_any(7_u8) };
        assert_eq!(told(strange), Err("without a message".to_owned()));
    }

    /// Goal: the report is made even if what the future holds panics when it is dropped. Method: a
    /// value whose drop panics, held across the panic.
    #[test]
    fn the_report_comes_before_the_drop() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                assert!(std::thread::panicking(), "a second panic, after the first was caught");
            }
        }
        let told = std::cell::RefCell::new(None);
        let bomb = Bomb;
        let body = std::future::poll_fn(move |_| -> Poll<()> {
            let _held = &bomb;
            panic!("the first")
        });
        let run = || block_on(catch_panic(body, |message| *told.borrow_mut() = Some(message)));
        let dropped = catch_unwind(AssertUnwindSafe(run));
        assert!(dropped.is_err(), "the drop panics on its own");
        assert_eq!(told.into_inner().as_deref(), Some("the first"));
    }
}
