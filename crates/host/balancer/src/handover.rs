//! One process takes another's place, which goes on until it does: a new program serves without a connection refused.
//!
//! The first listens at a socket in its state directory. The second connects there and is given the table that is served by,
//! the lock of the role, and every socket that is listened at. It serves, says so, and is told what the first still holds;
//! from then on the first takes nothing new, finishes what is open, and tells the second of it, which tells the region of both.
//!
//! **Invariant:** from what the first gives until the second serves, the table of the first stays as it is. So no target that a
//! report has taken out of routing is led to again.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, IoSlice, IoSliceMut, Read as _, Seek as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use longshore_types::Chain;
use routing::{Report, Table, TargetReport};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::feed::{ServedTable, Teller};
use crate::limits::{RETRY_PAUSE, TAKE_OVER_MAX, WORD_BYTES_MAX};
use crate::listen::{GivenSocket, Listeners, Place};
use crate::shared::{Phase, Shared};
use crate::sockets::NamespaceId;

/// In the state directory.
const SOCKET_FILE: &str = "handover.sock";
/// Of what the two say, their tables and reports included: one that the other cannot read needs another number. Programs that
/// differ in it do not take each other's place.
const VERSION: u32 = 1;

/// What the two say to each other. A descriptor comes with some of it.
#[derive(Debug, Serialize, Deserialize)]
enum Word {
    /// The first: so many sockets come. With the table.
    Begin { version: u32, sockets: usize },
    /// The first. With the lock file.
    Lock,
    /// The first. With the socket.
    Socket { place: Place, namespace: Option<NamespaceId> },
    /// The second: it serves.
    Serving,
    /// The first: it takes nothing new, and still holds this; then again whenever that changed.
    Held(Report),
}

/// The process whose place is taken, and what it gave.
#[derive(Debug)]
pub struct Predecessor {
    link: StdStream,
    lock: File,
    table: Table,
    sockets: BTreeMap<Place, GivenSocket>,
}

impl Predecessor {
    /// Asks the process that keeps its state in `state_dir`. It goes on as before until this one serves. None: it is not
    /// there, or of a program that gives nothing. This blocks.
    ///
    /// # Errors
    /// What it gives cannot be read.
    pub fn ask(state_dir: &Path) -> io::Result<Option<Self>> {
        let link = match Folder::open(state_dir).and_then(|it| StdStream::connect(it.socket())) {
            Ok(link) => link,
            Err(error) => {
                debug!(%error, "nobody gives their place away");
                return Ok(None);
            }
        };
        link.set_read_timeout(Some(TAKE_OVER_MAX))?;
        link.set_write_timeout(Some(TAKE_OVER_MAX))?;
        let (Word::Begin { version: VERSION, sockets: count }, Some(table)) = receive(&link)?
        else {
            return Err(unexpected());
        };
        let table = read_table(table)?;
        let (Word::Lock, Some(lock)) = receive(&link)? else { return Err(unexpected()) };
        let mut sockets = BTreeMap::new();
        for _ in 0..count {
            let (Word::Socket { place, namespace }, Some(socket)) = receive(&link)? else {
                return Err(unexpected());
            };
            sockets.insert(place, GivenSocket { namespace, socket });
        }
        Ok(Some(Self { link, lock: lock.into(), table, sockets }))
    }

    pub(crate) fn parts(self) -> (File, Table, BTreeMap<Place, GivenSocket>, Link) {
        (self.lock, self.table, self.sockets, Link(self.link))
    }
}

/// The way to the process before.
#[derive(Debug)]
pub(crate) struct Link(StdStream);

impl Link {
    /// Tells it that this one serves; what it holds still, if that is known, and what it says of it from then on.
    ///
    /// It has let go of its place, or ended, once it has heard that, whatever it says then: a link that closes with something
    /// unheard in it is one that fails, not one that is at its end.
    pub(crate) async fn serving(self) -> io::Result<(Option<Report>, OwnedReadHalf)> {
        let told = move || {
            send(&self.0, &Word::Serving, None)?;
            let held = match receive(&self.0) {
                Ok((Word::Held(report), _)) => Some(report),
                Ok(_) => None,
                Err(error) if is_other_words(&error) => None,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
                Err(error) => return Err(error),
            };
            io::Result::Ok((held, self.0))
        };
        let (report, link) =
            tokio::task::spawn_blocking(told).await.map_err(io::Error::other)??;
        link.set_nonblocking(true)?;
        let (read, write) = UnixStream::from_std(link)?.into_split();
        // That one sees by the link whether this one lives.
        write.forget();
        Ok((report, read))
    }
}

/// Hears what the process before still holds, until it has ended.
pub(crate) async fn hear(
    mut link: OwnedReadHalf,
    held: watch::Sender<Option<Report>>,
    shared: Arc<Shared>,
) {
    loop {
        match read_word(&mut link).await {
            Ok(Word::Held(report)) => {
                held.send_replace(Some(report));
                shared.changed.notify_one();
            }
            Err(error) if !is_other_words(&error) => break,
            // It is there: it would take a link that is let go of for the end of this process.
            Ok(_) | Err(_) => {}
        }
    }
    info!("the process before has ended");
    held.send_replace(None);
    shared.changed.notify_one();
}

/// What the region is told of a process and of the one before it.
pub(crate) fn with_held(mut report: Report, before: Option<&Report>) -> Report {
    let Some(before) = before else { return report };
    report.version = report.version.min(before.version);
    let name = |it: &TargetReport| (it.group.clone(), it.target.clone(), it.registered_at);
    let held = before.targets.iter().filter(|it| it.in_flight > 0);
    let mut held: BTreeMap<_, _> = held.map(|it| (name(it), it)).collect();
    for own in &mut report.targets {
        if held.is_empty() {
            break;
        }
        if let Some(theirs) = held.remove(&name(own)) {
            own.in_flight = own.in_flight.saturating_add(theirs.in_flight);
        }
    }
    report.targets.extend(held.into_values().cloned());
    let others = before.busy.iter().filter(|it| !report.busy.contains(it)).cloned();
    let others: Vec<_> = others.collect();
    report.busy.extend(others);
    report
}

/// The process that has taken this one's place; none if it has ended already.
#[derive(Debug)]
pub(crate) struct Successor(Option<UnixStream>);

impl Successor {
    /// What tells it of what is held, and what completes once it is gone.
    pub(crate) fn split(self) -> (Option<OwnedWriteHalf>, impl Future<Output = ()> + Send) {
        let (read, write) = self.0.map(UnixStream::into_split).unzip();
        let gone = async move {
            if let Some(mut read) = read {
                // It says nothing.
                let _: io::Result<usize> = read.read(&mut [0]).await;
            }
        };
        (write, gone)
    }
}

pub(crate) async fn tell(link: &mut OwnedWriteHalf, report: Report) -> io::Result<()> {
    link.write_all(&encode(&Word::Held(report))?).await
}

/// Listens for whoever is to take this process's place.
#[derive(Debug)]
pub(crate) struct Handover {
    state_dir: PathBuf,
    shared: Arc<Shared>,
    listeners: Arc<Listeners>,
    table: Arc<ServedTable>,
    /// What the process before this one still holds.
    before: watch::Receiver<Option<Report>>,
    lock: File,
}

impl Handover {
    pub(crate) fn new(
        state_dir: &Path,
        teller: &Teller,
        table: &Arc<ServedTable>,
        lock: File,
    ) -> Self {
        let (shared, listeners) = (Arc::clone(&teller.shared), Arc::clone(&teller.listeners));
        let (table, before) = (Arc::clone(table), teller.before.clone());
        Self { state_dir: state_dir.to_owned(), shared, listeners, table, before, lock }
    }

    /// Nobody takes over any more: the lock, for as long as the process is there.
    pub(crate) fn into_lock(self) -> File {
        self.lock
    }

    /// Completes once another process has taken over. One that fails changes nothing.
    pub(crate) async fn done(&self) -> Successor {
        let listener = self.listener().await;
        loop {
            let given = match listener.accept().await {
                Ok((link, _)) => self.give(link).await,
                Err(error) => Err(error),
            };
            match given {
                Ok(successor) => return successor,
                Err(error) => {
                    warn!(error = %Chain(&error), "no other process has taken over, serving on");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    /// From now on this is the process that is asked. The disk may be full at first.
    async fn listener(&self) -> UnixListener {
        let mut is_told = false;
        loop {
            match listen(&self.state_dir) {
                Ok(listener) => return listener,
                Err(error) if !is_told => {
                    warn!(error = %Chain(&error), "no other process can take over from this one, trying on");
                    is_told = true;
                }
                Err(_) => {}
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn give(&self, link: UnixStream) -> io::Result<Successor> {
        // Held until the other serves: see the module.
        let table = self.table.stays().await;
        let link = link.into_std()?;
        link.set_nonblocking(false)?;
        link.set_read_timeout(Some(TAKE_OVER_MAX))?;
        link.set_write_timeout(Some(TAKE_OVER_MAX))?;
        let (sockets, lock) = (self.listeners.sockets(), self.lock.try_clone()?);
        let offered = Arc::clone(&table);
        let offer = move || offer(&link, &offered, &lock, &sockets).map(|()| link);
        let link = tokio::task::spawn_blocking(offer).await.map_err(io::Error::other)??;
        self.listeners.let_go().await;
        self.shared.phase.send_replace(Phase::HandedOver);
        let held = self.shared.snapshot.borrow().report("", &self.shared.at_interfaces);
        let held = with_held(held, self.before.borrow().as_ref());
        drop(table);
        // The sockets are the other's now: whether it still lives is seen by the link.
        let say = move || {
            let told = send(&link, &Word::Held(held), None);
            told.and_then(|()| link.set_nonblocking(true)).map(|()| link)
        };
        let link = tokio::task::spawn_blocking(say).await.map_err(io::Error::other).flatten();
        let link = link.and_then(UnixStream::from_std);
        Ok(Successor(link.inspect_err(|error| debug!(%error, "the other has ended")).ok()))
    }
}

fn listen(state_dir: &Path) -> io::Result<UnixListener> {
    let folder = Folder::open(state_dir)?;
    let fresh = folder.path(&format!("{SOCKET_FILE}.new"));
    // What a process before this one left.
    let _ = std::fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh)?;
    std::fs::rename(&fresh, folder.socket())?;
    Ok(listener)
}

/// Gives all, and waits until the other serves.
fn offer(
    link: &StdStream,
    table: &Table,
    lock: &File,
    sockets: &[(Place, Option<NamespaceId>, impl AsFd)],
) -> io::Result<()> {
    let begin = Word::Begin { version: VERSION, sockets: sockets.len() };
    send(link, &begin, Some(write_table(table)?.as_fd()))?;
    send(link, &Word::Lock, Some(lock.as_fd()))?;
    for (place, namespace, socket) in sockets {
        let word = Word::Socket { place: place.clone(), namespace: *namespace };
        send(link, &word, Some(socket.as_fd()))?;
    }
    match receive(link)? {
        (Word::Serving, _) => Ok(()),
        _ => Err(unexpected()),
    }
}

/// In memory: keys of certificates are in it, and the disk may be full.
fn write_table(table: &Table) -> io::Result<File> {
    let mut file = File::from(memfd_create(c"table", MemfdFlags::CLOEXEC)?);
    file.write_all(&serde_json::to_vec(table)?)?;
    file.rewind()?;
    Ok(file)
}

fn read_table(file: OwnedFd) -> io::Result<Table> {
    Ok(serde_json::from_reader(BufReader::new(File::from(file)))?)
}

/// A directory by descriptor: paths of sockets may not be long, and that of a data directory may be.
struct Folder(File);

impl Folder {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(File::open(path)?))
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        format!("/proc/self/fd/{}/{name}", self.0.as_raw_fd()).into()
    }

    fn socket(&self) -> std::path::PathBuf {
        self.path(SOCKET_FILE)
    }
}

/// Whether a whole word came, of another program's.
fn is_other_words(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}

fn unexpected() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the other process says something else")
}

/// A word, after its length.
fn encode(word: &Word) -> io::Result<Vec<u8>> {
    let text = serde_json::to_vec(word)?;
    let length = u32::try_from(text.len()).map_err(io::Error::other)?;
    Ok([&length.to_be_bytes(), text.as_slice()].concat())
}

fn decode(text: &[u8]) -> io::Result<Word> {
    Ok(serde_json::from_slice(text)?)
}

fn length(bytes: [u8; 4]) -> io::Result<usize> {
    let length = usize::try_from(u32::from_be_bytes(bytes)).map_err(io::Error::other)?;
    if length > WORD_BYTES_MAX { Err(unexpected()) } else { Ok(length) }
}

/// The descriptor goes with the first byte.
fn send(mut link: &StdStream, word: &Word, with: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let bytes = encode(word)?;
    let with: Vec<BorrowedFd<'_>> = with.into_iter().collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !with.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&with));
    }
    let sent = sendmsg(link, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
    link.write_all(bytes.get(sent..).unwrap_or_default())
}

fn receive(mut link: &StdStream) -> io::Result<(Word, Option<OwnedFd>)> {
    let mut first = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let into = &mut [IoSliceMut::new(&mut first)];
    let read = recvmsg(link, into, &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
    if read == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let with = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    link.read_exact(first.get_mut(read..).unwrap_or_default())?;
    let mut text = vec![0; length(first)?];
    link.read_exact(&mut text)?;
    Ok((decode(&text)?, with))
}

async fn read_word(link: &mut OwnedReadHalf) -> io::Result<Word> {
    let mut first = [0; 4];
    link.read_exact(&mut first).await?;
    let mut text = vec![0; length(first)?];
    link.read_exact(&mut text).await?;
    decode(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::shared;

    const OTHER_WORDS: &[u8] = b"\0\0\0\x0a{\"Kept\":7}";

    #[tokio::test]
    async fn one_that_has_let_go_of_its_place_is_not_waited_for_whatever_it_says() {
        for says in [&b""[..], OTHER_WORDS] {
            let (link, mut first) = StdStream::pair().unwrap();
            let hears = move || {
                assert!(matches!(receive(&first), Ok((Word::Serving, None))));
                first.write_all(says).unwrap();
            };
            let first = tokio::task::spawn_blocking(hears);
            let (held, _link) = Link(link).serving().await.unwrap();
            assert_eq!(held, None);
            first.await.unwrap();
        }
    }

    #[tokio::test]
    async fn one_that_has_not_heard_that_another_serves_goes_on() {
        let (link, first) = StdStream::pair().unwrap();
        send(&link, &Word::Serving, None).unwrap();
        drop(first);
        assert_eq!(receive(&link).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert!(Link(link).serving().await.is_err());
    }

    #[tokio::test]
    async fn what_cannot_be_read_of_the_process_before_does_not_end_it() {
        let (link, mut first) = UnixStream::pair().unwrap();
        let (held, mut told) = watch::channel(None);
        let hears = tokio::spawn(hear(link.into_split().0, held, Arc::new(shared())));
        first.write_all(OTHER_WORDS).await.unwrap();
        first.write_all(&encode(&Word::Held(Report::default())).unwrap()).await.unwrap();
        told.wait_for(Option::is_some).await.unwrap();
        drop(first);
        hears.await.unwrap();
        assert_eq!(*told.borrow(), None);
    }
}
