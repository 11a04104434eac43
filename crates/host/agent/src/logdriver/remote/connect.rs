//! Where log lines are sent: an address as Docker's drivers have it, and a connection to it.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use image::Egress;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UdpSocket, UnixDatagram, UnixStream, lookup_host};
use tokio_rustls::TlsConnector;

use crate::limits::REMOTE_CA_BYTES_MAX;

/// Until a connection counts as failed.
const CONNECT: Duration = Duration::from_secs(5);

/// The kernel's flags of opening: a name alone, without what opening does; no link at its end; no waiting.
const PATH_ONLY: i32 = 0o10_000_000;
const NO_FOLLOW: i32 = 0o400_000;
const NO_WAIT: i32 = 0o4_000;

/// An address of a log driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Tcp { host: String, port: u16 },
    Tls { host: String, port: u16 },
    Udp { host: String, port: u16 },
    Unix(PathBuf),
    Unixgram(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Self::Tls { host, port } => write!(f, "tls://{host}:{port}"),
            Self::Udp { host, port } => write!(f, "udp://{host}:{port}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Unixgram(path) => write!(f, "unixgram://{}", path.display()),
        }
    }
}

impl Address {
    /// Reads `tcp://host:port` and its like. A port that is not named is `port`, and a scheme `scheme`.
    pub(super) fn parse(text: &str, scheme: &str, port: u16) -> Option<Self> {
        let (scheme, rest) = text.split_once("://").unwrap_or((scheme, text));
        if let "unix" | "unixgram" = scheme {
            let path = PathBuf::from(rest);
            let is_plain = path.is_absolute();
            let address = if scheme == "unix" { Self::Unix(path) } else { Self::Unixgram(path) };
            return is_plain.then_some(address);
        }
        let authority: http::uri::Authority = rest.trim_end_matches('/').parse().ok()?;
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority.port_u16().unwrap_or(port);
        if host.is_empty() || rest.contains('@') || port == 0 {
            return None;
        }
        match scheme {
            "tcp" | "http" => Some(Self::Tcp { host, port }),
            "tls" | "tcp+tls" | "https" => Some(Self::Tls { host, port }),
            "udp" => Some(Self::Udp { host, port }),
            _ => None,
        }
    }
}

/// Whom this host's agent may send tasks' output to.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    egress: Egress,
    sockets: Vec<PathBuf>,
    /// In a directory that a container writes to: no link there is followed.
    own: Option<PathBuf>,
}

impl Reach {
    /// What is not this machine, nor on its link; beside that what its operator has named, `unix://` sockets too.
    pub fn new(egress: Egress, named: &[String]) -> Self {
        let mut reach = Self { egress, ..Self::default() };
        for name in named {
            match name.strip_prefix("unix://") {
                Some(path) => reach.sockets.push(path.into()),
                None => reach.egress = reach.egress.allow(name.clone()),
            }
        }
        reach
    }

    /// Also a socket that a task's router makes.
    pub(super) fn with_socket(&self, path: &Path) -> Self {
        Self { own: Some(path.to_owned()), ..self.clone() }
    }

    /// Whether a socket of this host may be written to; a container's own is held open meanwhile.
    fn socket(&self, path: &Path) -> io::Result<Option<std::fs::File>> {
        if self.own.as_deref() == Some(path) {
            return held(path).map(Some);
        }
        if self.sockets.iter().any(|allowed| allowed == path) {
            return Ok(None);
        }
        Err(denied(format!("unix://{} is a socket of this host", path.display()), "unix://PATH"))
    }

    /// The addresses of a host that may be connected to.
    async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let mut refused = None;
        let mut open = Vec::new();
        for address in lookup_host((host, port)).await? {
            match self.egress.denies(host, port, address.ip()) {
                None => open.push(address),
                Some(why) => refused = Some(why),
            }
        }
        match (open.is_empty(), refused) {
            (false, _) => Ok(open),
            (true, Some(why)) => Err(denied(why, "HOST:PORT")),
            (true, None) => Err(io::Error::new(io::ErrorKind::NotFound, "no such host")),
        }
    }
}

/// The socket itself, whatever happens to its name: whoever may write to its directory could put a link to a socket of
/// the host there.
fn held(path: &Path) -> io::Result<std::fs::File> {
    use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};

    let mut options = std::fs::OpenOptions::new();
    let file = options.read(true).custom_flags(PATH_ONLY | NO_FOLLOW).open(path)?;
    if !file.metadata()?.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no socket"));
    }
    Ok(file)
}

fn denied(what: String, form: &str) -> io::Error {
    let text = format!(
        "{what}, and this host's agent was not told to send output there (longshore agent \
         --allow-log-endpoint {form})"
    );
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}

/// Something that is written to, and perhaps read from.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// An open way to an address.
pub(super) enum Open {
    Stream(Box<dyn Stream>),
    Udp(UdpSocket),
    Unixgram(UnixDatagram),
}

/// Opens a way to `address`; certificates are those of the machine, and those of `ca_file`.
pub(super) async fn open(
    address: &Address,
    reach: &Reach,
    ca_file: Option<&Path>,
) -> io::Result<Open> {
    let opening = async {
        match address {
            Address::Tcp { host, port } => {
                Ok(Open::Stream(Box::new(tcp(host, *port, reach).await?)))
            }
            Address::Tls { host, port } => {
                let stream = tcp(host, *port, reach).await?;
                let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                let connector = TlsConnector::from(Arc::new(tls_config(ca_file)?));
                Ok(Open::Stream(Box::new(connector.connect(name, stream).await?)))
            }
            Address::Udp { host, port } => {
                let to = reach.addresses(host, *port).await?;
                let is_v4 = to.first().is_some_and(SocketAddr::is_ipv4);
                let own = if is_v4 { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(own).await?;
                socket.connect(&to[..]).await?;
                Ok(Open::Udp(socket))
            }
            Address::Unix(path) => {
                use std::os::fd::AsRawFd as _;

                let own = reach.socket(path)?;
                // By its descriptor, which also makes long paths short.
                let known = own.as_ref().map(|own| format!("/proc/self/fd/{}", own.as_raw_fd()));
                let path = known.as_deref().map_or(path.as_path(), Path::new);
                match UnixStream::connect(path).await {
                    Ok(stream) => Ok(Open::Stream(Box::new(stream))),
                    // `/dev/log` is of either kind.
                    Err(error) if error.raw_os_error() == Some(PROTOTYPE) => unixgram(path),
                    Err(error) => Err(error),
                }
            }
            Address::Unixgram(path) => {
                drop(reach.socket(path)?);
                unixgram(path)
            }
        }
    };
    match tokio::time::timeout(CONNECT, opening).await {
        Ok(opened) => opened,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no connection within 5 s")),
    }
}

/// The kernel's number for a socket of another kind.
const PROTOTYPE: i32 = 91;

fn unixgram(path: &Path) -> io::Result<Open> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    Ok(Open::Unixgram(socket))
}

async fn tcp(host: &str, port: u16, reach: &Reach) -> io::Result<TcpStream> {
    let to = reach.addresses(host, port).await?;
    let stream = TcpStream::connect(&to[..]).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn tls_config(ca_file: Option<&Path>) -> io::Result<rustls::ClientConfig> {
    let trust = match ca_file {
        None => trust::Trust::system(),
        Some(path) => trust::Trust::only(&certificates(path)?).map_err(io::Error::other)?,
    };
    Ok(trust.client_config())
}

/// A file of the host that a task definition names: nothing but a file is opened, since a device or a pipe may never
/// end or do what opening it does, and no more of it is read than authorities take.
fn certificates(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::OpenOptionsExt as _;

    let refused = |why: &str| {
        let text = format!("{} is {why}", path.display());
        io::Error::new(io::ErrorKind::InvalidInput, text)
    };
    let mut options = std::fs::OpenOptions::new();
    let known = options.read(true).custom_flags(PATH_ONLY).open(path)?;
    if !known.metadata()?.is_file() {
        return Err(refused("no file"));
    }
    let mut options = std::fs::OpenOptions::new();
    let options = options.read(true).custom_flags(NO_WAIT);
    let file = options.open(format!("/proc/self/fd/{}", known.as_raw_fd()))?;
    let mut bytes = Vec::new();
    file.take(REMOTE_CA_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    match u64::try_from(bytes.len()) {
        Ok(length) if length <= REMOTE_CA_BYTES_MAX => Ok(bytes),
        Ok(_) | Err(_) => Err(refused("larger than a file of certificates may be, which is 1 MiB")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_dockers_drivers_read_them() {
        let parse = |text| Address::parse(text, "tcp", 24_224).map(|it| it.to_string());
        for (text, read) in [
            ("logs.lan", "tcp://logs.lan:24224"),
            ("logs.lan:1", "tcp://logs.lan:1"),
            ("tcp://10.0.0.1:9", "tcp://10.0.0.1:9"),
            ("tcp+tls://logs.lan:6514", "tls://logs.lan:6514"),
            ("udp://logs.lan:514", "udp://logs.lan:514"),
            ("unix:///dev/log", "unix:///dev/log"),
            ("unixgram:///dev/log", "unixgram:///dev/log"),
        ] {
            assert_eq!(parse(text).as_deref(), Some(read), "{text}");
        }
        for wrong in ["", "ftp://x:1", "unix://x", "tcp://u@x:1", "tcp://x:0", "tcp://"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[tokio::test]
    async fn output_leaves_the_machine_or_goes_where_its_operator_has_said() {
        let named = ["127.0.0.1:5".to_owned(), "unix:///run/here".to_owned()];
        let reach = Reach::new(Egress::default(), &named);
        assert!(reach.addresses("127.0.0.1", 5).await.is_ok());
        assert!(reach.addresses("10.9.9.9", 1).await.is_ok());
        for (host, port) in [("127.0.0.1", 6), ("169.254.169.254", 80), ("::1", 5)] {
            let error = reach.addresses(host, port).await.unwrap_err();
            assert!(error.to_string().contains("--allow-log-endpoint"), "{error}");
        }
        assert!(reach.socket(Path::new("/run/here")).is_ok());
        assert!(reach.socket(Path::new("/dev/log")).is_err());
    }

    #[test]
    fn certificates_are_read_from_files_alone_and_no_more_than_certificates_take() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("ca.pem"), dir.path().join("link.pem"));
        std::fs::write(&file, "text").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(certificates(&link).unwrap(), b"text", "authorities are often links");
        std::fs::File::create(&file).unwrap().set_len(REMOTE_CA_BYTES_MAX + 1).unwrap();
        assert!(certificates(&file).unwrap_err().to_string().contains("larger"));
        for other in ["/dev/zero", "/dev/tty", "/proc"] {
            let error = certificates(Path::new(other)).unwrap_err();
            assert!(error.to_string().contains("no file"), "{other}: {error}");
        }
    }

    #[tokio::test]
    async fn a_link_that_a_router_puts_in_its_sockets_place_leads_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let (real, own) = (dir.path().join("hosts.sock"), dir.path().join("fluent.sock"));
        let listener = tokio::net::UnixListener::bind(&real).unwrap();
        std::os::unix::fs::symlink(&real, &own).unwrap();
        let reach = Reach::default().with_socket(&own);
        assert!(open(&Address::Unix(own.clone()), &reach, None).await.is_err());
        drop(listener);
        std::fs::remove_file(&own).unwrap();
        let _listener = tokio::net::UnixListener::bind(&own).unwrap();
        assert!(open(&Address::Unix(own), &reach, None).await.is_ok());
    }
}
