//! By which address other hosts reach this one.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use http::Uri;

/// The address that this machine has towards the region, unless that is on this machine and for it alone: then
/// there are no other hosts.
pub(super) fn towards(region: &Uri) -> Option<Ipv4Addr> {
    let host = region.host()?;
    let port = region.port_u16().unwrap_or(443);
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // Nothing is sent: the kernel looks the way up.
    socket.connect((host, port)).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(address) if !address.is_loopback() => Some(address),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_for_this_machine_alone_has_no_other_hosts() {
        for uri in ["http://127.0.0.1:4566", "https://localhost", "https://[::1]:4566", "/"] {
            assert_eq!(towards(&uri.parse().unwrap()), None, "{uri}");
        }
    }
}
