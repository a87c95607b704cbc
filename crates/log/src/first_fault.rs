//! A latch that keeps the first fault of a store and reports it to a listener (RULE 8).

use std::fmt;
use std::sync::OnceLock;

use parking_lot::Mutex;

type Listener<F> = Box<dyn FnOnce(&F) + Send>;

/// Open until the first fault, which closes it for good. The listener is called at once, on the
/// thread that met the fault: a store's background threads have no caller to return it to, and the
/// next write may come much later.
pub struct FirstFault<F> {
    fault: OnceLock<F>,
    listener: Mutex<Option<Listener<F>>>,
}

impl<F> FirstFault<F> {
    /// An open latch.
    #[must_use]
    pub fn new() -> FirstFault<F> {
        FirstFault { fault: OnceLock::new(), listener: Mutex::new(None) }
    }

    /// Closes with the fault that `make` returns, unless closed already. Returns the fault that
    /// closed it.
    pub fn close(&self, make: impl FnOnce() -> F) -> &F {
        let first = self.fault.get_or_init(make);
        self.tell();
        first
    }

    /// The fault that closed it.
    #[must_use]
    pub fn get(&self) -> Option<&F> {
        self.fault.get()
    }

    /// Calls `listener` once with the first fault: now, if there was one already. A later listener
    /// replaces one that was not called yet. It must not block: it may run on a thread of the
    /// storage engine.
    pub fn listen(&self, listener: impl FnOnce(&F) + Send + 'static) {
        *self.listener.lock() = Some(Box::new(listener));
        self.tell();
    }

    /// Fault and listener are each stored before the other is read, and the lock orders both reads:
    /// the thread that comes second finds both.
    fn tell(&self) {
        let mut listener = self.listener.lock();
        let Some(fault) = self.fault.get() else {
            return;
        };
        let taken = listener.take();
        // Called without the lock, so that the listener may read the fault.
        drop(listener);
        if let Some(listener) = taken {
            listener(fault);
        }
    }
}

impl<F> Default for FirstFault<F> {
    fn default() -> Self {
        FirstFault::new()
    }
}

impl<F: fmt::Debug> fmt::Debug for FirstFault<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirstFault").field("fault", &self.fault).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// Goal: the listener hears of the first fault, once, whichever of the two comes first. Method:
    /// both orders, and threads that race.
    #[test]
    fn the_listener_is_called_once_with_the_first_fault() {
        for listen_first in [true, false] {
            let (first, heard) = (FirstFault::new(), Arc::new(Mutex::new(Vec::new())));
            let listen = || {
                let heard = Arc::clone(&heard);
                first.listen(move |fault: &u32| heard.lock().push(*fault));
            };
            if listen_first {
                listen();
            }
            assert_eq!(first.get(), None);
            assert_eq!(*first.close(|| 1), 1);
            assert_eq!(*first.close(|| 2), 1, "a later fault is a consequence");
            if !listen_first {
                assert!(heard.lock().is_empty());
                listen();
            }
            assert_eq!((first.get(), heard.lock().as_slice()), (Some(&1), &[1][..]));
        }
        for _ in 0..200 {
            let (first, heard) = (FirstFault::new(), Arc::new(Mutex::new(Vec::new())));
            std::thread::scope(|scope| {
                scope.spawn(|| first.close(|| 1));
                scope.spawn(|| first.close(|| 2));
                scope.spawn(|| {
                    let heard = Arc::clone(&heard);
                    first.listen(move |fault: &u32| heard.lock().push(*fault));
                });
            });
            assert_eq!(heard.lock().as_slice(), [*first.get().expect("closed")]);
        }
    }
}
