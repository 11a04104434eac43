//! A bridge of somebody else's, such as Docker's, from which containers are to reach the agent.
//!
//! The agent's address is the host's own on the bridge, so that nothing is translated: containers send there by their way
//! out, which the host is. What else is link-local is unreachable from the bridge, since clouds hand out a machine's own
//! credentials there.

use std::net::Ipv4Addr;

use nix::errno::Errno;

use crate::error::NetworkError;
use crate::netlink::{Requests, Socket};
use crate::ruleset::LINK_LOCAL;

/// After the table of local addresses, before all others.
const PRIORITY: u32 = 14_700;

/// Gives the host `address` on the bridge, and closes the way to all else that is link-local unless it is to be open.
pub fn lead_to_agent(link: &str, address: Ipv4Addr, is_open: bool) -> Result<(), NetworkError> {
    let mut route = Socket::route()?;
    let index = route.link_index(link)?;
    let mut requests = Requests::default();
    requests.add_address(index, address, 32);
    route.ask(&requests)?;
    if is_open {
        return close_no_more(&mut route, link);
    }
    let mut requests = Requests::default();
    requests.add_unreachable_from(link, LINK_LOCAL, PRIORITY);
    match route.ask(&requests) {
        Err(error) if error.is(Errno::EEXIST) => Ok(()),
        asked => Ok(asked?),
    }
}

/// Undoes that, as far as it does not go with the bridge itself.
pub fn lead_to_agent_no_more(link: &str) -> Result<(), NetworkError> {
    close_no_more(&mut Socket::route()?, link)
}

fn close_no_more(route: &mut Socket, link: &str) -> Result<(), NetworkError> {
    let mut requests = Requests::default();
    requests.delete_unreachable_from(link, LINK_LOCAL, PRIORITY);
    match route.ask(&requests) {
        Err(error) if error.is(Errno::ENOENT) => Ok(()),
        asked => Ok(asked?),
    }
}
