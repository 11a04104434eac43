use model::Row;

use super::*;
use crate::testing::TestControl;

async fn managed(world: &TestControl, service: &'static str) -> NamedKey {
    let account = world.root().account;
    let decided = world.control.decide(|view, now| {
        let mut batch = Batch::on(view);
        let named = world.control.managed_key(view, &mut batch, account, service, now);
        Ok((batch, named))
    });
    decided.await.unwrap()
}

async fn put(world: &TestControl, row: impl Into<Row>) {
    let row = row.into();
    let decided = world.control.decide(|view, _| {
        let mut batch = Batch::on(view);
        batch.put(row.clone());
        Ok((batch, ()))
    });
    decided.await.unwrap();
}

#[tokio::test]
async fn a_managed_key_is_made_once_and_found_by_all_its_names() {
    let world = TestControl::new();
    let first = managed(&world, "ssm").await;
    assert_eq!(managed(&world, "ssm").await.key.id, first.key.id);
    assert_ne!(managed(&world, "secretsmanager").await.key.id, first.key.id);
    let (view, account) = (world.control.view(), world.root().account);
    let id = first.key.id;
    for name in [
        id.to_string(),
        format!("arn:aws:kms:us-east-1:{account}:key/{id}"),
        "alias/aws/ssm".to_owned(),
        format!("arn:aws:kms:us-east-1:{account}:alias/aws/ssm"),
    ] {
        let found = world.control.find_key(&view, account, &name).unwrap();
        assert_eq!(found.key.id, id, "{name}");
        assert_eq!(found.alias.is_some(), name.contains("alias/"), "{name}");
    }
    let refused = |name: &str| world.control.find_key(&view, account, name).unwrap_err();
    assert!(matches!(refused("alias/none"), KeyRefusal::NoAlias(_)));
    assert!(matches!(refused("web"), KeyRefusal::NotAKeyId(_)));
    assert!(matches!(refused(&Uuid::from_random([9; 16]).to_string()), KeyRefusal::NoKey(_)));
    let elsewhere = format!("arn:aws:kms:eu-west-1:{account}:key/{id}");
    assert!(matches!(refused(&elsewhere), KeyRefusal::OtherRegion(_)));
}

#[tokio::test]
async fn what_is_sealed_opens_for_its_row_and_while_its_key_is_enabled() {
    let world = TestControl::new();
    let key = managed(&world, "ssm").await.key;
    let sealed = world.control.seal_by(&key, b"row 1", b"plain").unwrap();
    let open = |bound_to: &[u8], sealed: &[u8]| {
        world.control.open_sealed(&world.control.view(), bound_to, sealed)
    };
    assert_eq!(open(b"row 1", &sealed).unwrap().as_slice(), b"plain");
    assert_eq!(open(b"row 2", &sealed).unwrap_err(), Unopened::Damaged);
    assert_eq!(open(b"row 1", b"short").unwrap_err(), Unopened::NotSealed);
    assert_eq!(key_of_sealed(&world.control.view(), &sealed).unwrap().id, key.id);
    let opening = world.control.opening_key(&world.control.view(), &sealed).unwrap();
    let second = world.control.seal_by(&key, b"row 2", b"second").unwrap();
    assert_eq!(name_in_sealed(&second), name_in_sealed(&sealed));
    assert_eq!(opening.open(b"row 1", &sealed).unwrap().as_slice(), b"plain");
    assert_eq!(opening.open(b"row 2", &second).unwrap().as_slice(), b"second");
    assert_eq!(opening.open(b"row 1", &second).unwrap_err(), Unopened::Damaged);
    let other = managed(&world, "secretsmanager").await.key;
    let other = world.control.seal_by(&other, b"row 1", b"other").unwrap();
    assert_eq!(opening.open(b"row 1", &other).unwrap_err(), Unopened::NotSealed);

    let mut next = KmsKey::clone(&key);
    let now = Timestamp(1);
    let more = world.control.mint_material(key.account, key.id, 1, MaterialCause::OnDemand, now);
    next.materials.push(more);
    put(&world, next.clone()).await;
    assert_eq!(open(b"row 1", &sealed).unwrap().as_slice(), b"plain", "older material opens");
    assert_ne!(world.control.seal_by(&next, b"row 1", b"plain").unwrap()[..29], sealed[..29]);

    for state in [KeyState::Disabled, KeyState::PendingDeletion(now)] {
        next.state = state;
        put(&world, next.clone()).await;
        assert!(matches!(open(b"row 1", &sealed), Err(Unopened::Refused(_))), "{state:?}");
    }
}
