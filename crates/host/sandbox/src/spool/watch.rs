//! Wakes readers when their directory changes: one inotify instance for all, since a user may have
//! only a few of them. Containers run as the same users and may have used them up; then a reader looks
//! again and again.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

type Wakers = Mutex<HashMap<WatchDescriptor, Vec<Weak<Notify>>>>;

/// How often a reader looks that nobody wakes.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Cheap to clone; the task behind it ends with its last clone.
#[derive(Clone, Debug)]
pub(crate) struct Watcher {
    /// Nothing where the kernel had no instance left.
    shared: Option<Arc<Shared>>,
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
    place: Option<(Arc<Shared>, WatchDescriptor)>,
    notify: Arc<Notify>,
}

impl Watcher {
    /// Must be called within a tokio runtime.
    pub(crate) fn start() -> Self {
        let shared = Shared::open();
        if let Err(error) = &shared {
            tracing::warn!(%error, "output is looked for in intervals");
        }
        Self { shared: shared.ok().map(Arc::new) }
    }

    pub(crate) fn watch(&self, dir: &Path) -> Watch {
        let notify = Arc::new(Notify::new());
        let place = self.shared.as_ref().and_then(|shared| {
            let descriptor = shared.watch(dir, &notify).inspect_err(|error| {
                tracing::warn!(%error, "output is looked for in intervals");
            });
            Some((Arc::clone(shared), descriptor.ok()?))
        });
        Watch { place, notify }
    }
}

impl Shared {
    fn open() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        // JUSTIFICATION: tokio has no other way to wait for a descriptor of a kind it does not know.
        // SAFETY: `Source` owns its descriptor, never replaces it, and is dropped after the
        // registration, which owns it.
        let registered =
            unsafe { AsyncFd::register_with_interest(Source(inotify), Interest::READABLE) };
        let inotify = Arc::new(registered.map_err(io::Error::from)?);
        let wakers = Arc::new(Wakers::default());
        #[expect(clippy::disallowed_methods, reason = "aborted when the last watcher is dropped")]
        let task = tokio::spawn(dispatch(Arc::clone(&inotify), Arc::clone(&wakers)));
        Ok(Self { inotify, wakers, task: task.abort_handle() })
    }

    fn watch(&self, dir: &Path, notify: &Arc<Notify>) -> io::Result<WatchDescriptor> {
        let interest = AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE_SELF;
        let mut wakers = lock(&self.wakers);
        let descriptor = self.inotify.get_ref().0.add_watch(dir, interest)?;
        wakers.entry(descriptor).or_default().push(Arc::downgrade(notify));
        Ok(descriptor)
    }
}

impl Watch {
    /// Returns once something happened since the last return, or may have.
    pub(crate) async fn changed(&self) {
        match self.place {
            Some(_) => self.notify.notified().await,
            None => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let Some((shared, descriptor)) = &self.place else { return };
        let mut wakers = lock(&shared.wakers);
        let Some(list) = wakers.get_mut(descriptor) else { return };
        list.retain(|other| !std::ptr::eq(other.as_ptr(), Arc::as_ptr(&self.notify)));
        if list.is_empty() {
            wakers.remove(descriptor);
            // The directory may be gone, and its watch with it.
            let _ = shared.inotify.get_ref().0.rm_watch(*descriptor);
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

#[cfg(test)]
mod tests {
    use longshore_types::Timestamp;

    use super::*;
    use crate::spool::{LogItem, LogReader, Position, Stream, Writer};

    #[tokio::test]
    async fn output_is_found_also_where_nobody_can_be_woken() {
        let dir = tempfile::tempdir().unwrap();
        let nobody = Watcher { shared: None };
        let mut reader = LogReader::open(&nobody, dir.path(), Position::default()).unwrap();
        let at = dir.path().to_owned();
        let writer = tokio::spawn(async move {
            let mut writer = Writer::open(&at, 1 << 20, 1 << 20).unwrap();
            tokio::task::yield_now().await;
            writer.append(Stream::Stdout, Timestamp(1), b"hello\n");
        });
        let LogItem::Record(record) = reader.next().await.unwrap() else { panic!() };
        assert_eq!(record.bytes, b"hello");
        writer.await.unwrap();
    }
}
