//! Uploads that are left open: how many there may be, and when they go.

use http::{Method, StatusCode};
use longshore_types::{Clock as _, SystemClock};

use crate::world::{ACCOUNT, OTHER, World, repository};

/// Opens uploads into `name` until one is refused, and says how many there were and by what.
async fn fill(world: &World, account: &str, name: &str) -> (usize, StatusCode, String) {
    let path = format!("/v2/{name}/blobs/uploads/");
    for count in 0..=registry::UPLOADS_OF_ACCOUNT_MAX {
        let got = world.ask_as(account, Method::POST, &path, &[], "").await;
        if got.status != StatusCode::ACCEPTED {
            return (count, got.status, got.code());
        }
    }
    panic!("never refused");
}

#[tokio::test]
async fn one_accounts_open_uploads_keep_neither_its_other_repositories_nor_others_from_theirs() {
    let world = World::new().await;
    world.registry.catalog().create(repository(OTHER, "api"), false);
    let refused = (StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS".to_owned());
    let (count, status, code) = fill(&world, OTHER, "web").await;
    assert_eq!((count, (status, code)), (registry::UPLOADS_OF_REPOSITORY_MAX, refused.clone()));
    let (count, status, code) = fill(&world, OTHER, "api").await;
    let rest = registry::UPLOADS_OF_ACCOUNT_MAX - registry::UPLOADS_OF_REPOSITORY_MAX;
    assert_eq!((count, (status, code)), (rest, refused));
    let path = "/v2/web/blobs/uploads/";
    let mine = world.ask_as(ACCOUNT, Method::POST, path, &[], "").await;
    assert_eq!(mine.status, StatusCode::ACCEPTED);
    // One that is given up makes room for one.
    let listed = std::fs::read_dir(world.dir.path().join("uploads")).unwrap();
    assert_eq!(listed.count(), registry::UPLOADS_OF_ACCOUNT_MAX + 1);
    let gone = world.ask_as(ACCOUNT, Method::DELETE, mine.header("location"), &[], "").await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn an_upload_goes_after_hours_without_a_byte_and_not_after_hours_alone() {
    let world = World::new().await;
    let open = || async {
        let got = world.ask(Method::POST, "/v2/web/blobs/uploads/", "").await;
        (got.header("docker-upload-uuid").to_owned(), got.header("location").to_owned())
    };
    let ((silent, _), (fed, place)) = (open().await, open().await);
    let now = std::time::UNIX_EPOCH + std::time::Duration::from_millis(SystemClock.now().0);
    let idle = std::time::Duration::from_millis(registry::UPLOAD_IDLE_MS_MAX + 1000);
    let uploads = world.dir.path().join("uploads");
    for id in [&silent, &fed] {
        let file = std::fs::File::open(uploads.join(format!("{id}.json"))).unwrap();
        file.set_modified(now - idle).unwrap();
    }
    assert_eq!(world.ask(Method::PATCH, &place, "x").await.status, StatusCode::ACCEPTED);
    assert_eq!(world.registry.sweep().await.unwrap().uploads, 1);
    assert!(!uploads.join(format!("{silent}.json")).exists());
    assert!(uploads.join(format!("{fed}.json")).exists());
}
