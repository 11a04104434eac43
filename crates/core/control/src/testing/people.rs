//! Users of IAM, for tests of what policies let them do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aws_wire::{Caller, Principal};
use longshore_types::{IdSource as _, Timestamp, Token};
use model::{Grants, IamAccessKey, IamUser, PolicyText};
use policy::{Policy, PolicyKind};
use store::Batch;

use super::TestControl;
use crate::iam::access_keys::{self, LONG_TERM};

/// Makes a user with one inline policy and a key, and answers a request of it.
///
/// # Panics
///
/// If the policy is none, or the store does not take the rows.
pub async fn user(world: &TestControl, account: &str, name: &str, policy: &str) -> Caller {
    let parsed = Policy::parse(policy, PolicyKind::Identity).expect("a policy");
    let inline = BTreeMap::from([("own".to_owned(), PolicyText::new(parsed))]);
    let root = world.root_of(account);
    let letters = world.env.id16().map(|byte| char::from(b'A' + byte % 26));
    let unique_id: Arc<str> = format!("AIDA{}", String::from_iter(letters)).into();
    let key = access_keys::mint(LONG_TERM, root.account, world.env.as_ref());
    let secret = Token::from_text("secret".to_owned());
    let user = IamUser {
        account: root.account,
        name: name.into(),
        path: "/".into(),
        unique_id: Arc::clone(&unique_id),
        created_at: Timestamp(0),
        tags: BTreeMap::new(),
        boundary: None,
        grants: Grants { inline, ..Grants::default() },
        groups: BTreeSet::new(),
        devices: BTreeSet::new(),
        login: None,
    };
    let row = IamAccessKey {
        account: root.account,
        id: key.as_str().into(),
        user: Arc::clone(&unique_id),
        is_active: true,
        created_at: Timestamp(0),
        sealed_secret: world.control.access.seal_secret(world.env.as_ref(), &key, &secret),
    };
    let decided = world.control.decide(|view, _| {
        let mut batch = Batch::on(view);
        batch.put(user.clone());
        batch.put(row.clone());
        Ok((batch, ()))
    });
    decided.await.expect("the rows are taken");
    let principal = Principal::User { name: name.into(), path: "/".into(), id: unique_id };
    Caller { access_key: key, principal, ..root }
}

/// Makes a key inactive.
///
/// # Panics
///
/// If there is no such key, or the store does not take the row.
pub async fn deactivate(world: &TestControl, caller: &Caller) {
    let decided = world.control.decide(|view, _| {
        let key = view.iam_access_keys.get(caller.account, &caller.access_key.as_str().into());
        let row = key.expect("the key is there").as_ref().clone();
        let mut batch = Batch::on(view);
        batch.put(IamAccessKey { is_active: false, ..row });
        Ok((batch, ()))
    });
    decided.await.expect("the row is taken");
}
