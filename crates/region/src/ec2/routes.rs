//! The routes of this host, from `/proc/net/route`; needs no root.

use std::net::Ipv4Addr;

use model::vpc::Cidr;

/// Every IPv4 block that the host has a route to; none where that can't be read.
pub(super) fn of_host() -> Vec<Cidr> {
    parse(&std::fs::read_to_string("/proc/net/route").unwrap_or_default())
}

/// One line a route after the heading; destination and mask are hexadecimal in host byte order.
fn parse(table: &str) -> Vec<Cidr> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut columns = line.split_whitespace();
            let address = |text: &str| {
                u32::from_str_radix(text, 16).ok().map(|bits| Ipv4Addr::from(bits.to_le_bytes()))
            };
            let destination = address(columns.nth(1)?)?;
            let mask = address(columns.nth(5)?)?;
            Cidr::new(destination, u8::try_from(mask.to_bits().count_ones()).ok()?)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_is_read() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\n\
            eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            eth0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
            broken\n";
        let routes: Vec<_> = parse(table).iter().map(ToString::to_string).collect();
        assert_eq!(routes, ["0.0.0.0/0", "172.17.0.0/16"]);
    }
}
