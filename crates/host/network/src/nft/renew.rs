//! A table made anew under the packets that pass through it.
//!
//! A chain that is deleted goes on judging by its old rules until the kernel has taken it off its hook, and by then the
//! sets and maps that they ask are empty: what a last rule drops is dropped meanwhile, whatever was to pass. So the
//! chains, sets and maps that a table has stay, and what they say is exchanged: from one packet to the next.

use std::collections::BTreeSet;

use nix::errno::Errno;

use super::{Batch, DEL_ELEMENTS, DEL_RULE, FAMILY_INET, NETFILTER_HEADER_LEN, SUBSYSTEM};
use crate::netlink::{DUMP, NetlinkError, REQUEST, Requests, Socket, attributes};

const GET_CHAIN: u16 = SUBSYSTEM << 8 | 4;
const DEL_CHAIN: u16 = SUBSYSTEM << 8 | 5;
const GET_SET: u16 = SUBSYSTEM << 8 | 10;
const DEL_SET: u16 = SUBSYSTEM << 8 | 11;
/// Where a dump names the table, a chain and a set.
const TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const SET_NAME: u16 = 2;

/// The chains and sets that there are in a table and that a batch has not named so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Remains {
    pub(super) chains: BTreeSet<String>,
    pub(super) sets: BTreeSet<String>,
}

/// What there is in a table, which need not be there.
pub(crate) fn remains(socket: &mut Socket, table: &str) -> Result<Remains, NetlinkError> {
    Ok(Remains {
        chains: names(socket, table, GET_CHAIN, CHAIN_NAME)?,
        sets: names(socket, table, GET_SET, SET_NAME)?,
    })
}

fn names(
    socket: &mut Socket,
    table: &str,
    kind: u16,
    name: u16,
) -> Result<BTreeSet<String>, NetlinkError> {
    let mut list = Requests::default();
    list.message(format!("list what is in table {table}"), kind, REQUEST | DUMP, |m| {
        m.raw(&[FAMILY_INET, 0, 0, 0]);
        m.text(TABLE, table);
    });
    let mut found = BTreeSet::new();
    // Kernels that know no filter list other tables' too.
    match socket.dump(&list, |payload| found.extend(named(payload, table, name))) {
        Err(error) if !error.is(Errno::ENOENT) => Err(error),
        Ok(()) | Err(_) => Ok(found),
    }
}

fn named(payload: &[u8], table: &str, name: u16) -> Option<String> {
    let payload = payload.get(NETFILTER_HEADER_LEN..)?;
    let text = |wanted: u16| {
        let (_, value) = attributes(payload).find(|(kind, _)| *kind == wanted)?;
        String::from_utf8(value.strip_suffix(&[0])?.to_vec()).ok()
    };
    text(name).filter(|_| text(TABLE).as_deref() == Some(table))
}

impl Batch {
    /// Empties what there is in the table, and keeps what is named again from here on; the rest goes as the batch is applied.
    pub(crate) fn renew_table(&mut self, there: Remains) {
        self.add_table();
        if !there.chains.is_empty() {
            self.message("flush the table".to_owned(), DEL_RULE, 0, |_| {});
        }
        for set in &there.sets {
            self.message(format!("flush set {set}"), DEL_ELEMENTS, 0, |m| m.text(SET_NAME, set));
        }
        self.remains = there;
    }

    pub(super) fn delete_remains(&mut self) {
        let Remains { chains, sets } = std::mem::take(&mut self.remains);
        for chain in chains {
            self.message(format!("delete chain {chain}"), DEL_CHAIN, 0, |m| {
                m.text(CHAIN_NAME, &chain);
            });
        }
        for set in sets {
            self.message(format!("delete set {set}"), DEL_SET, 0, |m| m.text(SET_NAME, &set));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_where_it_is_of_the_table() {
        let mut payload = vec![FAMILY_INET, 0, 0, 0];
        for (kind, text) in [(TABLE, "mine123\0"), (CHAIN_NAME, "egress_\0")] {
            payload.extend_from_slice(&12_u16.to_ne_bytes());
            payload.extend_from_slice(&kind.to_ne_bytes());
            payload.extend_from_slice(text.as_bytes());
        }
        assert_eq!(named(&payload, "mine123", CHAIN_NAME).as_deref(), Some("egress_"));
        assert_eq!(named(&payload, "other", CHAIN_NAME), None);
        assert_eq!(named(&payload, "mine123", SET_NAME), None);
        for cut in 0..payload.len() {
            assert_eq!(named(&payload[..cut], "mine123", CHAIN_NAME), None, "cut at {cut}");
        }
    }

    #[test]
    fn what_is_not_named_again_is_deleted() {
        let names = |all: &[&str]| all.iter().map(|it| (*it).to_owned()).collect::<BTreeSet<_>>();
        let mut batch = Batch::new("t".to_owned());
        batch.renew_table(Remains { chains: names(&["a", "b"]), sets: names(&["s", "t"]) });
        batch.add_chain("b");
        batch.add_set("t", crate::nft::DataType::Address);
        let left = Remains { chains: names(&["a"]), sets: names(&["s"]) };
        assert_eq!(batch.remains, left);
        let before = batch.requests.len();
        batch.delete_remains();
        assert_eq!(batch.requests.len() - before, 2);
    }
}
