//! Wakes readers when their directory changes: one inotify instance for all, since a user may have
//! only a few of them.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

type Wakers = Mutex<HashMap<WatchDescriptor, Vec<Weak<Notify>>>>;

/// Cheap to clone; the task behind it ends with its last clone.
#[derive(Clone, Debug)]
pub(crate) struct Watcher {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    inotify: Arc<AsyncFd<Source>>,
    wakers: Arc<Wakers>,
    task: tokio::task::AbortHandle,
}

/// For tokio, which wants a number.
#[derive(Debug)]
struct Source(Inotify);

impl AsRawFd for Source {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A reader's place in the watcher. It may be woken for nothing, and never misses a change.
#[derive(Debug)]
pub(crate) struct Watch {
    shared: Arc<Shared>,
    descriptor: WatchDescriptor,
    notify: Arc<Notify>,
}

impl Watcher {
    /// Must be called within a tokio runtime.
    pub(crate) fn start() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        // JUSTIFICATION: tokio has no other way to wait for a descriptor of a kind it does not know.
        // SAFETY: `Source` owns its descriptor, never replaces it, and is dropped after the
        // registration, which owns it.
        let registered =
            unsafe { AsyncFd::register_with_interest(Source(inotify), Interest::READABLE) };
        let inotify = Arc::new(registered.map_err(io::Error::from)?);
        let wakers = Arc::new(Wakers::default());
        let task = tokio::spawn(dispatch(Arc::clone(&inotify), Arc::clone(&wakers)));
        let shared = Shared { inotify, wakers, task: task.abort_handle() };
        Ok(Self { shared: Arc::new(shared) })
    }

    pub(crate) fn watch(&self, dir: &Path) -> io::Result<Watch> {
        let interest = AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE_SELF;
        let notify = Arc::new(Notify::new());
        let mut wakers = lock(&self.shared.wakers);
        let descriptor = self.shared.inotify.get_ref().0.add_watch(dir, interest)?;
        wakers.entry(descriptor).or_default().push(Arc::downgrade(&notify));
        drop(wakers);
        Ok(Watch { shared: Arc::clone(&self.shared), descriptor, notify })
    }
}

impl Watch {
    /// Returns once something happened since the last return.
    pub(crate) async fn changed(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut wakers = lock(&self.shared.wakers);
        let Some(list) = wakers.get_mut(&self.descriptor) else { return };
        list.retain(|other| !std::ptr::eq(other.as_ptr(), Arc::as_ptr(&self.notify)));
        if list.is_empty() {
            wakers.remove(&self.descriptor);
            // The directory may be gone, and its watch with it.
            let _ = self.shared.inotify.get_ref().0.rm_watch(self.descriptor);
        }
    }
}

async fn dispatch(inotify: Arc<AsyncFd<Source>>, wakers: Arc<Wakers>) {
    loop {
        let Ok(mut ready) = inotify.readable().await else { return };
        match inotify.get_ref().0.read_events() {
            Ok(events) => {
                let wakers = lock(&wakers);
                for event in events {
                    if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                        wakers.values().flatten().for_each(wake);
                    } else if let Some(list) = wakers.get(&event.wd) {
                        list.iter().for_each(wake);
                    }
                }
            }
            Err(_) => ready.clear_ready(),
        }
    }
}

fn wake(notify: &Weak<Notify>) {
    if let Some(notify) = notify.upgrade() {
        notify.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
