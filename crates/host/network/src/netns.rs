//! Namespaces: made on threads of their own, held open until they are wanted, mounted when they are.
//!
//! A prepared namespace exists through a descriptor only. It has its link and its settings, and no
//! address yet; if the process dies it is gone, with its link, because nothing else refers to it.
//!
//! **Invariant:** a thread that enters a namespace does nothing else, and ends if it cannot return.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use files::set_kernel_file;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{NSFS_MAGIC, statfs};
use tracing::{info, warn};

use longshore_types::Chain;

use crate::addr::MacAddr;
use crate::error::NetworkError;
use crate::limits;
use crate::names::{LinkName, NetTag};
use crate::netlink::route::{LOOPBACK, LinkIndex, VethPair};
use crate::netlink::{Requests, Socket};
use crate::numbers::LinkNumbers;
use crate::ruleset::LINK_LOCAL;

/// The interface's name inside, as on Fargate.
pub(crate) const INSIDE_NAME: &str = "eth0";
/// The host's end of every link has this address: inside, it is the gateway's.
pub(crate) const HOST_MAC: MacAddr = MacAddr::new([0x02, 0x4c, 0x53, 0, 0, 1]);
/// Numbers that are tried when a link's name is taken, which only somebody else can have done.
const NAME_ATTEMPTS_MAX: usize = 4096;

/// Set inside every namespace before its link appears. As Docker does, any user may listen on any port
/// and ping; our networks carry IPv4 only.
const SETTINGS: &[(&str, &str)] = &[
    ("ipv6/conf/default/disable_ipv6", "1"),
    ("ipv4/ip_unprivileged_port_start", "0"),
    ("ipv4/ping_group_range", "0 2147483647"),
];

/// The host's end of a link: both say which it is, since neither is given twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostLink {
    pub(crate) index: LinkIndex,
    pub(crate) name: LinkName,
}

/// A namespace with a link to the host, waiting for its address.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) namespace: File,
    /// Speaks to the inside from wherever it is used.
    pub(crate) inside: Socket,
    pub(crate) inside_link: LinkIndex,
    pub(crate) link: HostLink,
}

/// What the makers need to know.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    pub(crate) tag: NetTag,
    pub(crate) mtu: u32,
    pub(crate) is_link_local_open: bool,
}

/// Namespaces made ahead of need. Dropping it ends the makers.
#[derive(Debug)]
pub(crate) struct Pool {
    size: usize,
    ready: Receiver<Result<Prepared, NetworkError>>,
}

impl Pool {
    /// Starts `makers` threads that keep up to `size` namespaces ready.
    pub(crate) fn start(
        recipe: &Recipe,
        numbers: LinkNumbers,
        (size, makers): (usize, usize),
    ) -> Result<Self, NetworkError> {
        let (sender, ready) = sync_channel(size.saturating_sub(makers));
        let numbers = Arc::new(numbers);
        for _ in 0..makers {
            let (recipe, sender, numbers) = (recipe.clone(), sender.clone(), Arc::clone(&numbers));
            thread::Builder::new()
                .name("netns-maker".to_owned())
                .spawn(move || keep_making(&recipe, &numbers, &sender))
                .map_err(|source| {
                    NetworkError::io("start a thread that makes namespaces", source)
                })?;
        }
        Ok(Self { size, ready })
    }

    /// What failed may have failed long ago: only when all that is ready has failed is it news.
    pub(crate) fn take(&self) -> Result<Prepared, NetworkError> {
        let gone = || io::Error::other("the threads that make namespaces are gone");
        let mut taken = Err(NetworkError::io("take a namespace", gone()));
        for _ in 0..=self.size {
            taken = match self.ready.recv() {
                Ok(made) => made,
                Err(_) => break,
            };
            if taken.is_ok() {
                break;
            }
        }
        taken
    }
}

fn keep_making(
    recipe: &Recipe,
    numbers: &LinkNumbers,
    ready: &SyncSender<Result<Prepared, NetworkError>>,
) {
    let mut maker = match Maker::new(recipe) {
        Ok(maker) => maker,
        Err(error) => {
            // Whoever waits learns why; the channel then closes.
            drop(ready.send(Err(error)));
            return;
        }
    };
    loop {
        let made = maker.make(numbers);
        let is_lost = made.is_err() && maker.return_home().is_err();
        if ready.send(made).is_err() || is_lost {
            return;
        }
    }
}

#[derive(Debug)]
struct Maker<'a> {
    recipe: &'a Recipe,
    home: File,
    outside: Socket,
}

impl<'a> Maker<'a> {
    fn new(recipe: &'a Recipe) -> Result<Self, NetworkError> {
        let home = this_namespace()?;
        Ok(Self { recipe, home, outside: Socket::route()? })
    }

    fn make(&mut self, numbers: &LinkNumbers) -> Result<Prepared, NetworkError> {
        unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|errno| NetworkError::io("make a network namespace", errno.into()))?;
        let namespace = this_namespace()?;
        for (name, value) in SETTINGS {
            set(&format!("/proc/sys/net/{name}"), value)?;
        }
        let mut inside = Socket::route()?;
        self.return_home()?;

        let name = self.connect(&namespace, numbers)?;
        let link = HostLink { index: self.outside.link_index(name.as_str())?, name };
        let inside_link = inside.link_index(INSIDE_NAME)?;
        let mut requests = Requests::default();
        requests.set_up(LOOPBACK);
        requests.set_up(inside_link);
        if !self.recipe.is_link_local_open {
            // The table keeps it out too; this way programs hear at once that nobody is there.
            requests.add_unreachable(LINK_LOCAL, 0);
        }
        inside.ask(&requests)?;
        Ok(Prepared { namespace, inside, inside_link, link })
    }

    fn connect(
        &mut self,
        namespace: &File,
        numbers: &LinkNumbers,
    ) -> Result<LinkName, NetworkError> {
        let mut attempts = 0;
        loop {
            let near = self.recipe.tag.link(numbers.next()?);
            let mut requests = Requests::default();
            requests.add_veth(&VethPair {
                near: &near,
                near_mac: HOST_MAC,
                far: INSIDE_NAME,
                far_namespace: namespace.as_fd(),
                mtu: self.recipe.mtu,
            });
            match self.outside.ask(&requests) {
                Ok(()) => {
                    let quiet = format!("/proc/sys/net/ipv6/conf/{near}/disable_ipv6");
                    // A kernel without IPv6 has no such file, and nothing to turn off.
                    drop(set_kernel_file(Path::new(&quiet), "1"));
                    return Ok(near);
                }
                Err(error) if error.is(Errno::EEXIST) => {
                    attempts += 1;
                    if attempts == NAME_ATTEMPTS_MAX {
                        return Err(error.into());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn return_home(&self) -> Result<(), NetworkError> {
        setns(&self.home, CloneFlags::CLONE_NEWNET)
            .map_err(|errno| NetworkError::io("return to the host's namespace", errno.into()))
    }
}

fn this_namespace() -> Result<File, NetworkError> {
    File::open("/proc/thread-self/ns/net")
        .map_err(|source| NetworkError::io("open this thread's network namespace", source))
}

/// Writes a kernel setting of the calling thread's network namespace. One that this kernel does not
/// have is nothing to set.
pub(crate) fn set(path: &str, value: &str) -> Result<(), NetworkError> {
    match set_kernel_file(Path::new(path), value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(|source| NetworkError::io(format!("set {path}"), source)),
    }
}

/// Sees to it that the links of endpoints that are gone go too. They do by themselves with the namespace,
/// unless a process lingers there; those are deleted after a while, off everybody's path.
#[derive(Debug)]
pub(crate) struct Reaper {
    leaving: SyncSender<HostLink>,
}

impl Reaper {
    pub(crate) fn start() -> Result<Self, NetworkError> {
        let (leaving, inbox) = sync_channel(limits::ENDPOINTS_MAX);
        let mut route = Socket::route()?;
        thread::Builder::new()
            .name("link-reaper".to_owned())
            .spawn(move || {
                while let Ok(first) = inbox.recv() {
                    thread::sleep(limits::LINK_LINGER);
                    let links: Vec<HostLink> =
                        [first].into_iter().chain(inbox.try_iter()).collect();
                    reap(&mut route, &links);
                }
            })
            .map_err(|source| NetworkError::io("start the thread that removes links", source))?;
        Ok(Self { leaving })
    }

    /// Never waits: with more leaving than there can be endpoints, the rest is left to the next start.
    pub(crate) fn see_off(&self, link: HostLink) {
        drop(self.leaving.try_send(link));
    }
}

fn reap(route: &mut Socket, links: &[HostLink]) {
    for HostLink { index, name: link } in links {
        match route.delete_link(*index, link) {
            Ok(true) => info!(%link, "link removed from under a lingering process"),
            Ok(false) => {}
            Err(error) => warn!(%link, error = %Chain(&error), "link stays"),
        }
    }
}

/// Makes the directory of all namespaces one mount, with theirs inside: whoever copies the host's
/// mounts, as every container's start does, can let go of them all at once. They are nobody else's to
/// see either.
pub(crate) fn set_apart(dir: &Path) -> Result<(), NetworkError> {
    let failed = |errno: Errno| NetworkError::io(format!("mount {}", dir.display()), errno.into());
    if is_mount(dir)? {
        return Ok(());
    }
    let (none, flags) = (None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC);
    mount(Some(dir), dir, none, flags, none).map_err(failed)?;
    let flags = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    mount(none, dir, none, flags, none).map_err(failed)
}

/// Undoes [`set_apart`].
pub(crate) fn put_back(dir: &Path) -> Result<(), NetworkError> {
    if is_mount(dir)? {
        umount2(dir, MntFlags::MNT_DETACH).map_err(|errno| {
            NetworkError::io(format!("unmount {}", dir.display()), errno.into())
        })?;
    }
    Ok(())
}

/// Whether something is mounted at this very directory.
fn is_mount(dir: &Path) -> Result<bool, NetworkError> {
    let failed = |source| NetworkError::io(format!("look for {}", dir.display()), source);
    let dir = fs::canonicalize(dir).map_err(failed)?;
    let table = fs::read_to_string("/proc/thread-self/mountinfo")
        .map_err(|source| NetworkError::io("read the mount table", source))?;
    // The kernel writes blanks and backslashes of a path in octal.
    let escaped = dir.to_string_lossy().replace('\\', "\\134").replace(' ', "\\040");
    Ok(table.lines().any(|line| line.split(' ').nth(4) == Some(escaped.as_str())))
}

/// Gives a namespace a name in the file system, which keeps it when all its processes are gone.
pub(crate) fn pin(namespace: &File, path: &Path) -> Result<(), NetworkError> {
    let failed =
        |source| NetworkError::io(format!("mount a namespace at {}", path.display()), source);
    // Only to be mounted on; one that is there already is as good.
    File::options().append(true).create(true).mode(0o600).open(path).map_err(failed)?;
    let source = format!("/proc/self/fd/{}", namespace.as_raw_fd());
    mount(Some(source.as_str()), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(|errno| failed(errno.into()))
}

/// Takes the name away, however often it was mounted; no error if there is none.
pub(crate) fn unpin(path: &Path) -> Result<(), NetworkError> {
    let failed = |source| NetworkError::io(format!("unmount {}", path.display()), source);
    while is_pinned(path) {
        umount2(path, MntFlags::MNT_DETACH).map_err(|errno| failed(errno.into()))?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Whether a namespace is mounted there.
pub(crate) fn is_pinned(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == NSFS_MAGIC)
}
