//! Access keys of hosts that joined: their ids say which host they are of.
//!
//! An id is four letters of its kind, twelve that are the host's, and four that are drawn. So a key is found in its
//! host's row without an index, and a host is the same one whichever of its keys it signs with.

use aws_wire::Principal;
use longshore_types::IdSource;
use model::node::NodeKey;
use model::{Node, View};
use sha2::{Digest as _, Sha256};

use super::access_keys::ALPHABET;
use crate::Config;

/// Of keys of hosts that joined.
const KIND: &str = "LSNK";
const NODE_LETTERS: usize = 12;
const ID_LETTERS: usize = 20;

fn letter(byte: u8) -> char {
    char::from(ALPHABET[usize::from(byte % 32)])
}

/// The id of the host that calls itself so: the same each time.
pub fn node_id(host: &str) -> String {
    let digest = Sha256::digest(format!("longshore|node|{host}"));
    digest.iter().take(NODE_LETTERS).map(|byte| letter(*byte)).collect()
}

/// A fresh id for a key of a host.
pub fn mint(node_id: &str, ids: &dyn IdSource) -> String {
    let drawn = ids.id16().into_iter().take(ID_LETTERS - KIND.len() - NODE_LETTERS).map(letter);
    KIND.chars().chain(node_id.chars()).chain(drawn).collect()
}

/// The host that a key's id says.
fn node_of(access_key_id: &str) -> Option<&str> {
    let rest = access_key_id.strip_prefix(KIND)?;
    (access_key_id.len() == ID_LETTERS).then(|| rest.get(..NODE_LETTERS))?
}

/// What an instance's row keeps of the key that it registered with: what all keys of one host have in common.
pub fn holder(access_key_id: &str) -> &str {
    match node_of(access_key_id) {
        Some(_) => &access_key_id[..KIND.len() + NODE_LETTERS],
        None => access_key_id,
    }
}

/// Whether what an instance's row keeps is of a host that joined.
pub fn is_holder(holder: &str) -> bool {
    holder.strip_prefix(KIND).is_some_and(|id| id.len() == NODE_LETTERS)
}

/// The host that an instance registered as, by what its row keeps of the key.
pub fn node_of_holder(view: &View, holder: &str) -> Option<std::sync::Arc<Node>> {
    let id = holder.strip_prefix(KIND).filter(|id| id.len() == NODE_LETTERS)?;
    view.nodes.get(Config::root_account(), &id.into()).cloned()
}

/// Whether a caller signs with a host's key: also one that has a role's permissions, as managed instances do.
pub fn is_host(caller: &aws_wire::Caller) -> bool {
    match caller.principal {
        Principal::Node { .. } => true,
        Principal::Role { .. } => node_of(&caller.access_key).is_some(),
        Principal::Root
        | Principal::User { .. }
        | Principal::Federated { .. }
        | Principal::Anonymous => false,
    }
}

/// The host that a caller is, if it is one that joined.
pub fn caller_node(view: &View, caller: &aws_wire::Caller) -> Option<std::sync::Arc<Node>> {
    match caller.principal {
        Principal::Node { .. } | Principal::Role { .. } => {
            find(view, &caller.access_key).map(|(node, _)| node)
        }
        Principal::Root
        | Principal::User { .. }
        | Principal::Federated { .. }
        | Principal::Anonymous => None,
    }
}

/// A key that there is, and its host.
pub(crate) fn find(view: &View, access_key_id: &str) -> Option<(std::sync::Arc<Node>, NodeKey)> {
    let node = view.nodes.get(Config::root_account(), &node_of(access_key_id)?.into())?;
    let key = node.keys.iter().find(|key| key.id == access_key_id)?;
    Some((std::sync::Arc::clone(node), key.clone()))
}

#[cfg(test)]
mod tests {
    use longshore_types::SeededEnv;

    use super::*;

    #[test]
    fn all_keys_of_a_host_have_its_part_in_common_and_other_keys_have_none() {
        let env = SeededEnv::from_seed(1);
        let (one, other) = (node_id("one"), node_id("other"));
        assert_ne!(one, other);
        let keys = [mint(&one, &env), mint(&one, &env), mint(&other, &env)];
        assert_ne!(keys[0], keys[1]);
        assert!(keys.iter().all(|key| key.len() == ID_LETTERS));
        assert_eq!(holder(&keys[0]), holder(&keys[1]));
        assert_ne!(holder(&keys[0]), holder(&keys[2]));
        assert_eq!(node_of(&keys[2]), Some(other.as_str()));
        for plain in ["AKIAIOSFODNN7EXAMPLE", "LSNK", "LSNKAAAAé", ""] {
            assert_eq!(holder(plain), plain);
        }
    }
}
