//! What is cached on a host is for those who may pull it now, and for nobody who merely knows its digest.

use std::sync::Arc;

use http::{Method, StatusCode};
use image::{
    Auth, Basic, Digest, Hasher, Mirrors, Progress, PullError, PulledImage, Puller, Reference,
};
use longshore_types::SeededEnv;

use crate::fake::{Fake, Made, status};
use crate::transfer::{login, puller, push};
use crate::world::{ACCOUNT, OTHER, World};

/// A host on which an account has pulled its private image.
struct Host {
    world: World,
    puller: Puller,
    theirs: Reference,
    image: PulledImage,
    dir: tempfile::TempDir,
}

fn shown(world: &World, account: &str) -> Auth {
    Auth::none().with(world.host.clone(), Basic::new("AWS", account)).owned_by(account)
}

impl Host {
    async fn new() -> Self {
        let world = World::new().await;
        let theirs = push(&world, "web:1", "amd64").await;
        let dir = tempfile::tempdir().unwrap();
        let puller = puller(dir.path(), &Arc::new(SeededEnv::from_seed(1)), Mirrors::default());
        let auth = shown(&world, ACCOUNT);
        let image = puller.pull(&theirs, &auth, &Progress::none()).await.unwrap();
        Self { world, puller, theirs, image, dir }
    }

    /// The registry ends, and so do the connections to it.
    fn lose_registry(&mut self) {
        self.world.stop();
        let env = Arc::new(SeededEnv::from_seed(1));
        self.puller = puller(self.dir.path(), &env, Mirrors::default());
    }

    async fn pull(&self, name: &str, auth: &Auth) -> Result<PulledImage, PullError> {
        let reference: Reference = name.parse().unwrap();
        self.puller.pull(&reference, auth, &Progress::none()).await
    }

    fn pinned(&self, repository: &str) -> String {
        format!("{}/{repository}@{}", self.world.host, self.image.manifest_digest)
    }

    fn secret_layer(&self) -> Digest {
        self.puller.store().list()[0].0.diff_ids[0]
    }
}

#[tokio::test]
async fn a_digest_opens_the_image_to_its_account_only_and_only_where_the_account_has_it() {
    let host = Host::new().await;
    let (own, other) = (shown(&host.world, ACCOUNT), shown(&host.world, OTHER));
    let same = host.pull(&host.pinned("web"), &own).await.unwrap();
    assert_eq!(same.layers, host.image.layers);
    for (repository, auth) in
        [("web", &other), ("api", &other), ("none", &other), ("api", &own), ("none", &own)]
    {
        let error = host.pull(&host.pinned(repository), auth).await.unwrap_err();
        assert!(matches!(error, PullError::NotFound { .. }), "{repository}: {error}");
    }
    for auth in [Auth::none(), Auth::none().owned_by(ACCOUNT)] {
        let error = host.pull(&host.pinned("web"), &auth).await.unwrap_err();
        assert!(matches!(error, PullError::Denied { .. }), "{error}");
    }
}

#[tokio::test]
async fn an_image_that_was_deleted_is_not_run_from_what_is_left_of_it() {
    let host = Host::new().await;
    let path = format!("/v2/web/manifests/{}", host.image.manifest_digest);
    let deleted = host.world.ask(Method::DELETE, &path, "").await;
    assert_eq!(deleted.status, StatusCode::ACCEPTED);
    let own = shown(&host.world, ACCOUNT);
    for name in [host.pinned("web"), host.theirs.to_string()] {
        let error = host.pull(&name, &own).await.unwrap_err();
        assert!(matches!(error, PullError::NotFound { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_registry_that_says_yes_to_every_digest_opens_nothing() {
    let host = Host::new().await;
    let digest = host.image.manifest_digest;
    let liar = Fake::new(move |seen| match seen.method {
        Method::HEAD => {
            let mut answer = status(200);
            let told = digest.to_string().parse().unwrap();
            answer.headers_mut().insert("docker-content-digest", told);
            answer
        }
        _ => status(404),
    })
    .await;
    for name in [format!("{}/x@{digest}", liar.host), format!("{}/x:1", liar.host)] {
        let error = host.pull(&name, &shown(&host.world, OTHER)).await.unwrap_err();
        assert!(matches!(error, PullError::NotFound { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_layer_is_nobodys_for_claiming_it() {
    let host = Host::new().await;
    // A layer of one's own, said to unpack to somebody else's.
    let claimed = Made::new(b"mine", &host.secret_layer());
    let digest = claimed.digest();
    let liar = Fake::new(move |seen| claimed.serve(seen)).await;
    for name in [format!("{}/x@{digest}", liar.host), format!("{}/x:1", liar.host)] {
        let error = host.pull(&name, &shown(&host.world, OTHER)).await.unwrap_err();
        assert!(matches!(error, PullError::Layer { .. }), "{error}");
    }
    assert!(
        liar.seen().iter().any(|seen| seen.path.ends_with(&Hasher::digest(b"mine").to_string()))
    );
    // The same in the region's own registry, where it has all that the manifest names.
    let claimed = Made::new(b"mine", &host.secret_layer());
    for blob in [claimed.config.as_bytes(), &claimed.layer] {
        let path = format!("/v2/web/blobs/uploads/?digest={}", Hasher::digest(blob));
        let got = host.world.ask_as(OTHER, Method::POST, &path, &[], blob.to_vec()).await;
        assert_eq!(got.status, StatusCode::CREATED);
    }
    let kind = [("content-type", image::manifest::OCI_MANIFEST)];
    let path = "/v2/web/manifests/claimed";
    let got = host.world.ask_as(OTHER, Method::PUT, path, &kind, claimed.manifest).await;
    assert_eq!(got.status, StatusCode::CREATED);
    let name = format!("{}/web:claimed", host.world.host);
    let error = host.pull(&name, &shown(&host.world, OTHER)).await.unwrap_err();
    assert!(matches!(error, PullError::Layer { .. }), "{error}");
}

#[tokio::test]
async fn a_layer_that_two_registries_have_is_fetched_from_both_and_kept_once() {
    let host = Host::new().await;
    let layer = tar_of("bin/x", b"hello");
    let made = Arc::new(Made::new(&layer, &Hasher::digest(&layer)));
    let serve = |made: &Arc<Made>| {
        let made = Arc::clone(made);
        Fake::new(move |seen| made.serve(seen))
    };
    let (one, two) = (serve(&made).await, serve(&made).await);
    let anybody = Auth::none().owned_by(OTHER);
    let first = host.pull(&format!("{}/x:1", one.host), &anybody).await.unwrap();
    let second = host.pull(&format!("{}/x:1", two.host), &anybody).await.unwrap();
    assert_eq!(first.layers, second.layers);
    let fetched = |fake: &Fake| {
        let layer = Hasher::digest(&layer).to_string();
        let of_layer =
            |seen: &&crate::fake::Seen| seen.method == Method::GET && seen.path.ends_with(&layer);
        fake.seen().iter().filter(of_layer).count()
    };
    assert_eq!((fetched(&one), fetched(&two)), (1, 1));
    // Now both are known to have it.
    host.pull(&format!("{}/x:1", one.host), &anybody).await.unwrap();
    host.pull(&format!("{}/x:1", two.host), &anybody).await.unwrap();
    assert_eq!((fetched(&one), fetched(&two)), (1, 1));
}

#[tokio::test]
async fn a_registry_out_of_reach_holds_up_nobody_whom_it_has_served_and_serves_nobody_else() {
    let mut host = Host::new().await;
    let (own, other) = (shown(&host.world, ACCOUNT), shown(&host.world, OTHER));
    let pinned = host.pinned("web");
    host.pull(&pinned, &own).await.unwrap();
    host.lose_registry();
    for name in [pinned.clone(), host.theirs.to_string()] {
        let image = host.pull(&name, &own).await.unwrap();
        assert_eq!(image.layers, host.image.layers, "{name}");
        for auth in [&other, &Auth::none()] {
            let error = host.pull(&name, auth).await.unwrap_err();
            assert!(matches!(error, PullError::Unreachable { .. }), "{name}: {error}");
        }
    }
    let error = host.pull(&host.pinned("api"), &own).await.unwrap_err();
    assert!(matches!(error, PullError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn rights_outlive_the_agent() {
    let world = World::new().await;
    let theirs = push(&world, "web:1", "amd64").await;
    let dir = tempfile::tempdir().unwrap();
    let env = Arc::new(SeededEnv::from_seed(1));
    let auth = shown(&world, ACCOUNT);
    let pull = async |auth: &Auth| {
        puller(dir.path(), &env, Mirrors::default()).pull(&theirs, auth, &Progress::none()).await
    };
    pull(&auth).await.unwrap();
    world.stop();
    pull(&auth).await.unwrap();
    pull(&login(&world).owned_by(OTHER)).await.unwrap_err();
}

#[tokio::test]
async fn a_manifest_may_name_only_what_its_own_repository_has() {
    let world = World::new().await;
    let (_, got) = world.push_image("web", "1", b"secret").await;
    assert_eq!(got.status, StatusCode::CREATED);
    let manifest = String::from_utf8(world.get("/v2/web/manifests/1").await.body.to_vec()).unwrap();
    let digest = Hasher::digest(manifest.as_bytes());
    let layer = Hasher::digest(b"secret");
    let kind = [("content-type", image::manifest::OCI_MANIFEST)];
    for (account, repository) in [(OTHER, "web"), (ACCOUNT, "api")] {
        let put = format!("/v2/{repository}/manifests/stolen");
        let got = world.ask_as(account, Method::PUT, &put, &kind, manifest.clone()).await;
        assert_eq!(got.code(), "MANIFEST_BLOB_UNKNOWN", "{account} {repository}");
        for path in [
            format!("/v2/{repository}/manifests/{digest}"),
            format!("/v2/{repository}/blobs/{layer}"),
            format!("/v2/{repository}/blobs/{digest}"),
        ] {
            for method in [Method::GET, Method::HEAD] {
                let got = world.ask_as(account, method, &path, &[], "").await;
                assert_eq!(got.status, StatusCode::NOT_FOUND, "{account} {path}");
            }
        }
    }
    for from in ["web", "api", "none"] {
        let mount = format!("/v2/web/blobs/uploads/?mount={layer}&from={from}");
        let got = world.ask_as(OTHER, Method::POST, &mount, &[], "").await;
        assert_eq!(got.status, StatusCode::ACCEPTED, "an upload begins instead");
    }
    let path = format!("/v2/web/blobs/{layer}");
    let got = world.ask_as(OTHER, Method::GET, &path, &[], "").await;
    assert_eq!(got.status, StatusCode::NOT_FOUND);
}

fn tar_of(path: &str, body: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_size(body.len() as u64);
    header.set_mode(0o755);
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_data(&mut header, path, body).unwrap();
    tar.into_inner().unwrap()
}

#[tokio::test]
async fn bytes_that_came_for_somebody_else_are_not_finished_without_asking() {
    let world = World::new().await;
    let layer = tar_of("bin/x", &[7; 4096]);
    let made = Made::new(&layer, &Hasher::digest(&layer));
    let digest = Hasher::digest(&layer);
    // It has the image, and gives the layer to nobody.
    let fake = Fake::new(move |seen| {
        if seen.path.contains(&digest.to_string()) { status(404) } else { made.serve(seen) }
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let puller = puller(dir.path(), &Arc::new(SeededEnv::from_seed(1)), Mirrors::default());
    // What a pull that ended before it could unpack has left.
    for name in [format!("sha256-{}", digest.hex()), {
        Hasher::digest(format!("{}\n{digest}", fake.host).as_bytes()).hex()
    }] {
        std::fs::write(dir.path().join("partial").join(name), &layer).unwrap();
    }
    let reference: Reference = format!("{}/x:1", fake.host).parse().unwrap();
    let auth = shown(&world, OTHER);
    let error = puller.pull(&reference, &auth, &Progress::none()).await.unwrap_err();
    assert!(matches!(error, PullError::NotFound { .. }), "{error}");
}
