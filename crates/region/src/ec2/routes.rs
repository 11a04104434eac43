//! The routes of this host, from `/proc/net/route`; needs no root.

use std::net::Ipv4Addr;

use model::vpc::Cidr;

/// A route of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) block: Cidr,
    /// `*` where it leads nowhere.
    device: String,
    metric: u32,
}

/// How this region's own agent marks its routes: claims of a range by their metric, routes to tasks
/// by what the names of their interfaces begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteMark {
    pub metric: u32,
    pub device_prefix: String,
}

impl Route {
    fn is_of(&self, mark: &RouteMark) -> bool {
        self.metric == mark.metric || self.device.starts_with(&mark.device_prefix)
    }
}

/// Whether `block` is no longer the region's: somebody else has a route into it, and the region's own
/// agent does not hold it. A block that it holds stays its own, whatever came after.
pub(super) fn is_lost(block: Cidr, routes: &[Route], mark: &RouteMark) -> bool {
    let is_held = routes.iter().any(|route| route.block == block && route.metric == mark.metric);
    let overlaps = |route: &Route| route.block.prefix() > 0 && route.block.overlaps(block);
    !is_held && routes.iter().any(|route| overlaps(route) && !route.is_of(mark))
}

/// Every IPv4 route of the host; none where they can't be read.
pub(super) fn of_host() -> Vec<Route> {
    parse(&std::fs::read_to_string("/proc/net/route").unwrap_or_default())
}

/// One line a route after the heading; destination and mask are hexadecimal in host byte order.
pub(super) fn parse(table: &str) -> Vec<Route> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut columns = line.split_whitespace();
            let address = |text: &str| {
                u32::from_str_radix(text, 16).ok().map(|bits| Ipv4Addr::from(bits.to_le_bytes()))
            };
            let device = columns.next()?.to_owned();
            let destination = address(columns.next()?)?;
            let metric = columns.nth(4)?.parse().ok()?;
            let mask = address(columns.next()?)?;
            let prefix = u8::try_from(mask.to_bits().count_ones()).ok()?;
            Some(Route { block: Cidr::new(destination, prefix)?, device, metric })
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
        let routes: Vec<_> = parse(table).iter().map(|route| route.block.to_string()).collect();
        assert_eq!(routes, ["0.0.0.0/0", "172.17.0.0/16"]);
    }

    #[test]
    fn a_block_is_lost_to_others_only_and_not_while_it_is_held() {
        let mark = RouteMark { metric: 0xaaaa_aaaa, device_prefix: "lsaaaaaaaa".to_owned() };
        let heading = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n";
        let others = "*\t00001FAC\t00000000\t0201\t0\t0\t7\t0000FFFF\n";
        let own = "*\t00001FAC\t00000000\t0201\t0\t0\t2863311530\t0000FFFF\n";
        let task = "lsaaaaaaaa1\t04001FAC\t00000000\t0005\t0\t0\t0\tFFFFFFFF\n";
        let default = "eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\n";
        let is_lost = |lines: &[&str]| {
            let routes = parse(&format!("{heading}{}", lines.concat()));
            assert_eq!(routes.len(), lines.len());
            is_lost("172.31.0.0/16".parse().unwrap(), &routes, &mark)
        };
        assert!(!is_lost(&[default]));
        assert!(!is_lost(&[default, own, task]));
        assert!(!is_lost(&[task]));
        assert!(is_lost(&[others]));
        assert!(is_lost(&[task, others]));
        assert!(!is_lost(&[own, others]));
    }
}
