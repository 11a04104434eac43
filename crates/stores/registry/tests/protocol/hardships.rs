//! Pulls from registries that break off, and from those that want tokens.

use std::sync::Arc;

use image::{Auth, Basic, Mirrors, Progress, PullError, PulledImage, Reference};
use longshore_types::SeededEnv;

use crate::front::{Behaviour, Front, Tokens};
use crate::transfer::{login, puller, push};
use crate::world::World;

struct Pull {
    front: Arc<Front>,
    dir: tempfile::TempDir,
    result: Result<PulledImage, PullError>,
}

/// Pushes an image of two layers and pulls it through a front with these behaviour.
async fn pull(behaviour: Behaviour, auth: impl FnOnce(&Front) -> Auth) -> Pull {
    let world = World::new().await;
    push(&world, "web:1", "amd64").await;
    let front = Front::new(world, behaviour).await;
    let dir = tempfile::tempdir().unwrap();
    let puller = puller(dir.path(), &Arc::new(SeededEnv::from_seed(1)), Mirrors::default());
    let reference: Reference = format!("{}/web:1", front.host).parse().unwrap();
    let result = puller.pull(&reference, &auth(&front), &Progress::none()).await;
    Pull { front, dir, result }
}

fn own_login(front: &Front) -> Auth {
    login(&front.world).with(front.host.clone(), Basic::new("AWS", crate::world::ACCOUNT))
}

fn count(dir: &std::path::Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_broke() {
    let behaviour = Behaviour { cuts: 5, ..Behaviour::default() };
    let Pull { front, dir, result } = pull(behaviour, own_login).await;
    let image = result.unwrap();
    assert!(image.layers[1].join("etc/motd").is_file());
    assert_eq!(count(&dir.path().join("partial")), 0);
    let seen = front.seen();
    let layers: std::collections::BTreeSet<String> =
        seen.iter().filter(|seen| seen.range.is_some()).map(|seen| seen.path.clone()).collect();
    assert!(!layers.is_empty(), "{seen:?}");
    for layer in layers {
        let mut at = 0;
        for each in seen.iter().filter(|seen| seen.path == layer) {
            assert_eq!(each.range.unwrap_or(0), at, "no byte is asked for twice: {seen:?}");
            at += each.sent as u64;
        }
    }
}

#[tokio::test]
async fn a_registry_that_knows_no_ranges_is_asked_from_the_beginning() {
    let behaviour = Behaviour { cuts: 2, knows_no_ranges: true, ..Behaviour::default() };
    let Pull { result, dir: _dir, .. } = pull(behaviour, own_login).await;
    assert!(result.unwrap().layers[0].join("bin/hello").is_file());
}

#[tokio::test]
async fn a_registry_that_never_gets_on_is_given_up_and_nothing_half_is_left() {
    let behaviour = Behaviour { cuts: usize::MAX, gives_nothing: true, ..Behaviour::default() };
    let Pull { dir, result, front } = pull(behaviour, own_login).await;
    let error = result.unwrap_err();
    assert!(matches!(error, PullError::Unreachable { .. }) && error.is_away(), "{error}");
    assert!(error.to_string().contains(&front.host), "{error}");
    assert_eq!(count(&dir.path().join("layers")), 0);
    assert_eq!(count(&dir.path().join("images")), 0);
}

fn tokens(login: Option<(&'static str, &'static str)>, uses: usize) -> Behaviour {
    Behaviour { tokens: Some(Tokens { login, uses }), ..Behaviour::default() }
}

fn hub_login(front: &Front) -> Auth {
    Auth::none().with(front.host.clone(), Basic::new("me", "geheim"))
}

#[tokio::test]
async fn the_password_buys_a_token_and_goes_nowhere_else() {
    let Pull { front, result, .. } = pull(tokens(Some(("me", "geheim")), 1_000), hub_login).await;
    result.unwrap();
    assert_eq!(front.tokens_given(), 1, "one token for one repository");
    for seen in front.seen() {
        let shown = seen.authorization.unwrap_or_default();
        assert_eq!(shown.starts_with("Basic "), seen.path == "/token", "{} {shown}", seen.path);
    }
}

#[tokio::test]
async fn whoever_has_no_login_gets_a_strangers_token() {
    let Pull { front, result, .. } = pull(tokens(None, 1_000), |_| Auth::none()).await;
    result.unwrap();
    let asked: Vec<_> = front.seen().into_iter().filter(|seen| seen.path == "/token").collect();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].authorization, None);
}

#[tokio::test]
async fn a_token_that_ends_during_a_pull_is_replaced() {
    let Pull { front, result, .. } = pull(tokens(Some(("me", "geheim")), 2), hub_login).await;
    result.unwrap();
    assert!(front.tokens_given() > 1, "{:?}", front.seen());
}

#[tokio::test]
async fn a_wrong_password_is_said_to_be_one() {
    let wrong = |front: &Front| Auth::none().with(front.host.clone(), Basic::new("me", "other"));
    let Pull { result, .. } = pull(tokens(Some(("me", "geheim")), 1_000), wrong).await;
    assert!(matches!(result.unwrap_err(), PullError::Denied { .. }));
}
