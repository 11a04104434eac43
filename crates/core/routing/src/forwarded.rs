//! What is said to the target about the client: `X-Forwarded-For`, `X-Amzn-Trace-Id`, `Host`.

use std::net::{IpAddr, SocketAddr};

use crate::balancer::ForwardedFor;
use crate::head::without_port;

/// Addresses that `X-Forwarded-For` may hold; with more the request is answered with 463.
pub const FORWARDED_FOR_ADDRESSES_MAX: usize = 30;
/// Bytes of an `X-Amzn-Trace-Id` that is kept; a longer one is replaced.
const TRACE_ID_BYTES_MAX: usize = 7 * 1024;

/// The header's value for the target, from those that came (joined by commas); `None`: the header is not sent.
pub fn forwarded_for(
    mode: ForwardedFor,
    has_port: bool,
    came: Option<&str>,
    peer: SocketAddr,
) -> Option<String> {
    let came = came.filter(|came| !came.trim().is_empty());
    match mode {
        ForwardedFor::Remove => None,
        ForwardedFor::Preserve => came.map(str::to_owned),
        ForwardedFor::Append => {
            let address = match (peer.ip().to_canonical(), has_port) {
                (address, false) => address.to_string(),
                (IpAddr::V4(address), true) => format!("{address}:{}", peer.port()),
                (IpAddr::V6(address), true) => format!("[{address}]:{}", peer.port()),
            };
            Some(came.map_or_else(|| address.clone(), |came| format!("{came}, {address}")))
        }
    }
}

/// Whether a client sent more addresses than are taken.
pub fn has_too_many_addresses(came: &str) -> bool {
    came.split(',').count() > FORWARDED_FOR_ADDRESSES_MAX
}

/// The trace id for the target: a new root, or `Self=` put before (in place of) what came.
pub fn trace_id(came: Option<&str>, now_s: u64, random: [u8; 12]) -> String {
    let hex: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let fresh = format!("1-{now_s:08x}-{hex}");
    let has_root = |came: &&str| {
        came.len() <= TRACE_ID_BYTES_MAX
            && came.split(';').any(|field| field.trim_start().starts_with("Root="))
    };
    match came.filter(has_root) {
        None => format!("Root={fresh}"),
        Some(came) => {
            let others = came.split(';').filter(|field| !field.trim_start().starts_with("Self="));
            let others: Vec<&str> = others.collect();
            format!("Self={fresh};{}", others.join(";"))
        }
    }
}

/// The `Host` for the target: with the listener's port if it is not its protocol's own, else without any.
pub fn host(host: &str, listener_port: u16) -> String {
    let name = without_port(host);
    match listener_port {
        80 | 443 => name.to_owned(),
        _ if name.len() < host.len() => host.to_owned(),
        port => format!("{name}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_address_is_appended_kept_or_removed() {
        let v4: SocketAddr = "192.0.2.1:4711".parse().unwrap();
        let v6: SocketAddr = "[2001:db8::1]:4711".parse().unwrap();
        let mapped: SocketAddr = "[::ffff:192.0.2.1]:4711".parse().unwrap();
        use ForwardedFor::{Append, Preserve, Remove};
        for (mode, port, came, peer, expected) in [
            (Append, false, None, v4, Some("192.0.2.1")),
            (Append, false, Some("10.0.0.1"), v4, Some("10.0.0.1, 192.0.2.1")),
            (Append, true, None, v4, Some("192.0.2.1:4711")),
            (Append, true, Some("a"), v6, Some("a, [2001:db8::1]:4711")),
            (Append, false, Some(""), mapped, Some("192.0.2.1")),
            (Preserve, true, Some("a, b"), v4, Some("a, b")),
            (Preserve, true, None, v4, None),
            (Remove, false, Some("a"), v4, None),
        ] {
            assert_eq!(forwarded_for(mode, port, came, peer).as_deref(), expected);
        }
    }

    #[test]
    fn the_thirty_first_address_is_too_many() {
        assert!(!has_too_many_addresses(&["a"; 30].join(",")));
        assert!(has_too_many_addresses(&["a"; 31].join(", ")));
    }

    #[test]
    fn a_trace_keeps_its_root_and_gets_a_self() {
        let random = [0xab; 12];
        let fresh = "1-65000000-abababababababababababab";
        let trace = |came| trace_id(came, 0x6500_0000, random);
        assert_eq!(trace(None), format!("Root={fresh}"));
        assert_eq!(trace(Some("Root=1-2-3")), format!("Self={fresh};Root=1-2-3"));
        assert_eq!(
            trace(Some("Self=1-9-9;Root=1-2-3;app=x")),
            format!("Self={fresh};Root=1-2-3;app=x")
        );
        assert_eq!(trace(Some("app=x")), format!("Root={fresh}"));
        assert_eq!(trace(Some(&format!("Root={}", "x".repeat(8000)))), format!("Root={fresh}"));
    }

    #[test]
    fn the_host_has_a_port_where_the_listeners_is_not_the_usual_one() {
        for (came, port, expected) in [
            ("a.example", 8080, "a.example:8080"),
            ("a.example:8080", 8080, "a.example:8080"),
            ("a.example:80", 80, "a.example"),
            ("a.example", 443, "a.example"),
            ("[::1]", 8080, "[::1]:8080"),
        ] {
            assert_eq!(host(came, port), expected);
        }
    }
}
