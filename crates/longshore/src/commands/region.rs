//! `longshore region`: the API's process. It needs no root and owns the data directory.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use longshore_types::{Chain, OsIds, SystemClock, Token};
use network::{NameServer, Told};
use region::{Config, Doors, Keys, NameOutside, Proofs, Region, StartError, serve_proofs};
use routing::introduction::TOKEN_LEN;
use tokio::net::{TcpListener, TcpSocket};
use tracing::info;

use crate::addresses;
use crate::cli::RegionAlone;
use crate::commands::{agent, secrets};
use crate::data_dir::{DataDir, RegionFile, Role};
use crate::error::Error;
use crate::object_store;
use crate::reach::Reach;
use crate::signals;

/// Connections that the kernel keeps until they are accepted; it has a bound of its own.
const LISTEN_QUEUE: u32 = 4096;

pub(crate) fn load_keys(data: &DataDir) -> Result<Keys, Error> {
    Keys::load(data.root()).map_err(Error::other("read the region's keys"))
}

pub(crate) async fn run(data: &DataDir, args: &RegionAlone) -> Result<(), Error> {
    let RegionAlone { region: args, images } = args;
    data.create()?;
    let lock = data.take(Role::Region)?;
    let listener = bind(args.listen, data.region().ok().map(|file| file.address))?;
    let address = listener.local_addr().map_err(Error::io("ask for the listener's address"))?;
    let reach = Reach::of(address, args, data.root(), Arc::new(SystemClock))?;
    let mut config = Config::new(args.region.clone(), address, data.root().to_owned());
    config.advertise.clone_from(&reach.advertise);
    config.own_names.clone_from(&reach.certified);
    config.account_keys = args.account_keys.clone().map(Token::from_text);
    config.introduction_token = Some(Token::mint(&OsIds, TOKEN_LEN));
    config.oidc_keys.clone_from(&args.oidc_keys);
    config.image_scanner.clone_from(&args.image_scanner);
    config.retention.stopped_tasks_ms = args.stopped_task_hours * 3_600_000;
    config.heartbeat_timeout_ms = args.heartbeat_timeout_s() * 1_000;
    config.between_hosts = args.encrypt_between_hosts;
    config.root_key = secrets::source(&args.root_key)?;
    config.hooks.clone_from(&args.allow_hook);
    config.object_store = object_store::of(&args.objects)?;
    config.allowed_registries.clone_from(&images.allow_registry);
    config.denied_egress = images.deny_egress.iter().map(ToString::to_string).collect();
    let names = match args.dns_listen {
        Some(address) => Some(name_server(address).await?),
        None => None,
    };
    let proofs = match args.address.acme.acme_listen {
        Some(address) => Some(bind(address, None)?),
        None => None,
    };
    let region = Region::open(config, Arc::new(SystemClock), Arc::new(OsIds));
    let region = Arc::new(region.map_err(start_error)?);
    // The agent beside us needs the range before it can start.
    let ranges = addresses::settle(&region, agent::tag(data)?, args.claims_addresses).await?;
    data.write_region(&RegionFile {
        address,
        region: args.region.clone(),
        pid: std::process::id(),
        vpc: ranges.vpc.to_string(),
        bridge: ranges.bridge.to_string(),
        advertised: reach.advertise.as_ref().map(ToString::to_string),
        authority: reach.tls.authority_file().map(absolute),
        introduction_token: region.control.config.introduction_token.clone(),
    })?;
    let told = region.control.endpoint();
    info!(region = %args.region, %address, told, "region ready");
    let sessions = Arc::clone(&region);
    let stop = async move {
        signals::stop().await;
        sessions.sessions.close();
    };
    let reach_proofs = reach.tls.proofs();
    let doors = Doors { listener, tls: Some(reach.tls), plain: reach.plain };
    let answering = answer_names(names, Arc::clone(&region));
    let proving = show_proofs(proofs, reach_proofs);
    tokio::select! {
        served = region::serve(region, doors, stop) => served.map_err(Error::other("start the region"))?,
        () = answering => {}
        () = proving => {}
    }
    info!("region stopped");
    drop(lock);
    Ok(())
}

async fn name_server(address: SocketAddr) -> Result<NameServer, Error> {
    NameServer::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => Error::AddressInUse(address),
        _ => Error::Listen { address, source },
    })
}

/// Answers names of load balancers for as long as it is polled; never done.
async fn answer_names(names: Option<NameServer>, region: Arc<Region>) {
    if let Some(server) = names {
        if let Ok(address) = server.address() {
            info!(%address, "names are answered");
        }
        let lookup = move |name: &str, asker: IpAddr| match region.name_outside(name, asker) {
            NameOutside::Known(entry) => Told::Entry(entry),
            NameOutside::NotYet => Told::NotYet,
            NameOutside::Nobodys => Told::Nobodys,
        };
        server.serve(Arc::new(lookup)).await;
    }
    std::future::pending().await
}

/// Shows an ACME server what it looks for by HTTP, for as long as it is polled; never done.
async fn show_proofs(listener: Option<TcpListener>, proofs: Option<Arc<Proofs>>) {
    if let (Some(listener), Some(proofs)) = (listener, proofs) {
        serve_proofs(listener, proofs).await;
    }
    std::future::pending().await
}

/// A root key that is missing or wrong stays so however often one asks.
fn start_error(error: StartError) -> Error {
    match error {
        StartError::RootKey(why) => Error::Refused(Chain(&why).to_string()),
        StartError::DataDir { .. }
        | StartError::Keys(_)
        | StartError::Store(_)
        | StartError::Logs { .. }
        | StartError::Registry { .. }
        | StartError::Egress { .. }
        | StartError::Metrics { .. }
        | StartError::Audit(_) => Error::other("open the region")(error),
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Listens. For port 0 the port of the time before is tried first, so that a region which was
/// killed comes back where its clients look for it.
fn bind(wanted: SocketAddr, before: Option<SocketAddr>) -> Result<TcpListener, Error> {
    if let Some(before) = before
        && wanted.port() == 0
        && before.ip() == wanted.ip()
        && let Ok(listener) = listen(before)
    {
        return Ok(listener);
    }
    listen(wanted).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => Error::AddressInUse(wanted),
        _ => Error::Listen { address: wanted, source },
    })
}

/// As `TcpListener::bind` does, with a longer queue: who asks must not wait behind a crowd.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(LISTEN_QUEUE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_named_and_a_free_one_is_found_again() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let first = bind(any, None).unwrap();
        let address = first.local_addr().unwrap();
        let text = bind(address, None).unwrap_err().to_string();
        assert!(text.contains(&address.to_string()), "{text}");
        assert_ne!(bind(any, Some(address)).unwrap().local_addr().unwrap(), address);
        drop(first);
        assert_eq!(bind(any, Some(address)).unwrap().local_addr().unwrap(), address);
    }
}
