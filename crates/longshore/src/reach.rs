//! How a region is reached: the address that others are told, the names that its certificate has, and who may come
//! without TLS.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use acme::{Binding, Method, Settings};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control::Advertised;
use longshore_types::Clock;
use model::network::EndpointService;
use region::{AcmeSource, Plain, Tls, TlsSource};
use trust::Trust;
use zeroize::Zeroizing;

use crate::cli::{AcmeArgs, AddressArgs, RegionArgs};
use crate::error::Error;

/// Names that a certificate has at most: a machine may have thousands of addresses.
const NAMES_MAX: usize = 100;
/// Of no machine; to ask the kernel by which of its addresses it would go out.
const ELSEWHERE: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 9);

/// How a region is reached.
#[derive(Debug)]
pub(crate) struct Reach {
    /// What others are told; nothing if that is the listener's address, without TLS.
    pub(crate) advertise: Option<Advertised>,
    pub(crate) plain: Plain,
    /// What its certificate is for, the services' own names among them.
    pub(crate) certified: Vec<String>,
    pub(crate) tls: Arc<Tls>,
}

impl Reach {
    /// Decides it, and makes or reads the certificate.
    pub(crate) fn of(
        address: SocketAddr,
        args: &RegionArgs,
        data_dir: &Path,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let own = own_addresses();
        let advertise = advertised(address, args, outgoing().or_else(|| own.first().copied()))?;
        let mut names = names(address, advertise.as_ref(), host_name(), &own);
        let acme = acme_source(&args.address.acme, advertise.as_ref())?;
        for name in acme.iter().flat_map(|it| &it.names) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        // VPC endpoints are called by the services' own names.
        let services = EndpointService::all().iter();
        let of_endpoints = services.flat_map(|service| service.certificate_names(&args.region));
        let certified: Vec<String> = names.into_iter().chain(of_endpoints).collect();
        let tls = Tls::open(data_dir, source(&args.address, acme, certified.clone()), clock);
        let tls = tls.map_err(Error::other("ready the certificate"))?;
        // As before there was TLS: on loopback, and where it was asked for by name.
        let is_open = address.ip().is_loopback() || args.insecure_listen;
        let plain = if is_open { Plain::Everybody } else { Plain::ThisMachine };
        Ok(Self { advertise, plain, certified, tls: Arc::new(tls) })
    }
}

/// The address that others are told. Beyond loopback it is by TLS, unless it was asked for otherwise.
fn advertised(
    address: SocketAddr,
    args: &RegionArgs,
    outgoing: Option<IpAddr>,
) -> Result<Option<Advertised>, Error> {
    if let Some(given) = &args.address.advertise {
        if given.is_secure() || given.is_on_loopback() || args.insecure_listen {
            return Ok(Some(given.clone()));
        }
        return Err(Error::Insecure(given.clone()));
    }
    if address.ip().is_loopback() || args.insecure_listen {
        return Ok(None);
    }
    let ip = match address.ip() {
        ip if ip.is_unspecified() => outgoing.unwrap_or(Ipv4Addr::LOCALHOST.into()),
        ip => ip,
    };
    let text = format!("https://{}", SocketAddr::new(ip, address.port()));
    Ok(Some(text.parse().expect("an address is a host and a port")))
}

/// What the certificate is for, ordered and each once.
fn names(
    address: SocketAddr,
    advertise: Option<&Advertised>,
    host_name: Option<String>,
    own: &[IpAddr],
) -> Vec<String> {
    let is_everywhere = address.ip().is_unspecified();
    let own = own.iter().filter(|_| is_everywhere).map(ToString::to_string);
    let listened = Some(address.ip()).filter(|ip| !ip.is_unspecified());
    let first = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into_iter();
    // By which containers come, through their agent.
    let relayed = agent::endpoint::ADDRESS.to_string();
    let all = first
        .chain([relayed])
        .chain(advertise.map(|it| it.host().to_owned()))
        .chain(listened.map(|ip| ip.to_string()))
        .chain(host_name.filter(|name| is_dns_name(name)))
        .chain(own);
    let mut names: Vec<String> = Vec::new();
    for name in all {
        if !names.contains(&name) && names.len() < NAMES_MAX {
            names.push(name);
        }
    }
    names
}

fn is_dns_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    name.split('.').all(is_label)
}

/// What an ACME server is asked for, if one is.
fn acme_source(
    args: &AcmeArgs,
    advertise: Option<&Advertised>,
) -> Result<Option<AcmeSource>, Error> {
    let Some(directory) = &args.acme else { return Ok(None) };
    let mut names: Vec<String> = args.acme_name.iter().map(|it| it.to_ascii_lowercase()).collect();
    if names.is_empty() {
        names.extend(advertise.map(|it| it.host().to_ascii_lowercase()));
    }
    let is_name =
        |name: &String| is_dns_name(name) && name.contains('.') && name.parse::<IpAddr>().is_err();
    if names.is_empty() || !names.iter().all(is_name) {
        return Err(Error::Refused(
            "--acme asks for certificates of names such as region.example.com, and of no addresses: give --acme-name, or \
             --advertise https://NAME"
                .to_owned(),
        ));
    }
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|why| Error::Refused(format!("{}: {why}", path.display())))
    };
    let trust = match &args.acme_ca {
        None => Trust::system(),
        Some(path) => Trust::only(&read(path)?)
            .map_err(|why| Error::Refused(format!("{}: {why}", path.display())))?,
    };
    let binding = match &args.acme_binding {
        None => None,
        Some(path) => Some(binding(&read(path)?).ok_or_else(|| {
            let path = path.display();
            Error::Refused(format!(
                "{path} must have two lines: the account's id, and its key in base64url"
            ))
        })?),
    };
    let method = if args.acme_listen.is_some() { Method::Http } else { Method::Tls };
    let contacts = args.acme_contact.clone();
    let settings = Settings { directory: directory.to_string(), contacts, trust, binding };
    Ok(Some(AcmeSource { names, settings, method, authority: args.acme_ca.clone() }))
}

fn binding(text: &[u8]) -> Option<Binding> {
    let text = std::str::from_utf8(text).ok()?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let (key_id, key) = (lines.next()?.to_owned(), lines.next()?.trim_end_matches('='));
    let key = URL_SAFE_NO_PAD.decode(key).ok().filter(|key| !key.is_empty())?;
    Some(Binding { key_id, key: Zeroizing::new(key) })
}

fn source(args: &AddressArgs, acme: Option<AcmeSource>, names: Vec<String>) -> TlsSource {
    if let Some(acme) = acme {
        return TlsSource::Acme { names, acme };
    }
    let given = args.tls_cert.clone().zip(args.tls_key.clone());
    match given {
        Some((certificate, key)) => {
            let authority: Option<PathBuf> = args.tls_ca.clone();
            TlsSource::Files { certificate, key, authority }
        }
        None => TlsSource::Own { names },
    }
}

fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_ascii_lowercase())
}

/// By which address this machine goes out. Nothing is sent.
fn outgoing() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(ELSEWHERE).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified()).then_some(ip)
}

/// The addresses of this machine that another could call.
fn own_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let addresses = interfaces.filter_map(|interface| interface.address);
    let ips = addresses.filter_map(|address| {
        let v4 = address.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|it| IpAddr::V6(it.ip())))
    });
    let is_local = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local(),
    };
    ips.filter(|ip| !is_local(ip)).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn told(line: &str) -> Result<Option<String>, Error> {
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        let Command::Region(args) = cli.command else { panic!("{line}") };
        let outgoing = Some("10.0.0.7".parse().unwrap());
        advertised(args.region.listen, &args.region, outgoing).map(|it| it.map(|it| it.to_string()))
    }

    #[test]
    fn beyond_loopback_others_are_told_of_tls_unless_asked_otherwise_by_name() {
        let some = |text: &str| Some(text.to_owned());
        for (line, expected) in [
            ("longshore region", None),
            ("longshore region --listen [::1]:1", None),
            ("longshore region --listen 0.0.0.0:1", some("https://10.0.0.7:1")),
            ("longshore region --listen 10.0.0.1:1", some("https://10.0.0.1:1")),
            ("longshore region --listen 0.0.0.0:1 --insecure-listen", None),
            ("longshore region --advertise https://r.lan", some("https://r.lan")),
            ("longshore region --advertise http://localhost:1", some("http://localhost:1")),
            ("longshore region --insecure-listen --advertise http://r:1", some("http://r:1")),
        ] {
            assert_eq!(told(line).unwrap(), expected, "{line}");
        }
        let refused = told("longshore region --advertise http://r.lan").unwrap_err().to_string();
        assert!(refused.contains("--insecure-listen"), "{refused}");
    }

    #[test]
    fn a_certificate_has_all_that_the_machine_is_called_each_once() {
        let advertised: Advertised = "https://r.lan:1".parse().unwrap();
        let own: [IpAddr; 2] = ["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()];
        let of = |address: &str| {
            let address = address.parse().unwrap();
            names(address, Some(&advertised), Some("host_x".to_owned()), &own)
        };
        let always = ["localhost", "127.0.0.1", "::1", "169.254.170.2", "r.lan"];
        assert_eq!(of("127.0.0.1:1"), always);
        assert_eq!(of("0.0.0.0:1"), [&always[..], &["10.0.0.7", "fd00::7"]].concat());
        assert_eq!(of("10.0.0.7:1"), [&always[..], &["10.0.0.7"]].concat());
    }
}
