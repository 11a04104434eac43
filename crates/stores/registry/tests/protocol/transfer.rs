//! Images pushed and pulled by our own client, as the agent and `longshore image load` do.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use image::{
    Auth, Basic, ClientConfig, Egress, Event, Hasher, ImageStore, LoadedImage, Mirrors, Ownership,
    Progress, PullError, Puller, PullerConfig, Pusher, Reference, StoreConfig, Transport, archive,
};
use longshore_types::SeededEnv;
use tar::{Builder, Header};

use crate::world::{ACCOUNT, World};

fn append(tar: &mut Builder<Vec<u8>>, path: &str, body: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_size(body.len() as u64);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    tar.append_data(&mut header, path, body).unwrap();
}

/// An archive as `docker save` writes it, with two layers.
fn docker_save(dir: &Path, architecture: &str) -> Vec<LoadedImage> {
    let layers = ["bin/hello", "etc/motd"].map(|path| {
        let mut tar = Builder::new(Vec::new());
        append(&mut tar, path, path.repeat(50_000).as_bytes());
        tar.into_inner().unwrap()
    });
    let diff_ids = layers.each_ref().map(|layer| Hasher::digest(layer).to_string());
    let config = serde_json::json!({
        "architecture": architecture, "os": "linux",
        "config": { "Entrypoint": ["/bin/hello"], "Env": ["A=b"], "User": "1000" },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let manifest = serde_json::json!([{
        "Config": "config.json", "RepoTags": ["hello:1"], "Layers": ["0/layer.tar", "1/layer.tar"],
    }]);
    let mut tar = Builder::new(Vec::new());
    append(&mut tar, "config.json", config.to_string().as_bytes());
    append(&mut tar, "0/layer.tar", &layers[0]);
    append(&mut tar, "1/layer.tar", &layers[1]);
    append(&mut tar, "manifest.json", manifest.to_string().as_bytes());
    let path = dir.join("saved.tar");
    std::fs::write(&path, tar.into_inner().unwrap()).unwrap();
    archive::load(&path, dir, &|_, _| {}).unwrap()
}

fn transport() -> Transport {
    let quick = ClientConfig {
        retries_max: 1,
        retry_pause_ms: 1,
        egress: Egress::anywhere(),
        ..ClientConfig::default()
    };
    Transport::new(quick)
}

pub(crate) fn puller(dir: &Path, env: &Arc<SeededEnv>, mirrors: Mirrors) -> Puller {
    let config = StoreConfig { ownership: Ownership::Ignore, ..StoreConfig::new(dir) };
    let store = ImageStore::open(config, Arc::clone(env) as _).unwrap();
    let platform = image::manifest::Platform::linux("amd64");
    let config = PullerConfig { platform, mirrors, ..PullerConfig::default() };
    Puller::new(store, transport(), config)
}

pub(crate) fn login(world: &World) -> Auth {
    Auth::none().with(world.host.clone(), Basic::new("AWS", ACCOUNT))
}

pub(crate) async fn push(world: &World, name: &str, architecture: &str) -> Reference {
    let images = docker_save(world.dir.path(), architecture);
    assert_eq!(images[0].names, ["hello:1"]);
    let reference: Reference = format!("{}/{name}", world.host).parse().unwrap();
    let pusher = Pusher::new(transport());
    pusher.push(&images[0], &reference, &login(world), &Progress::none()).await.unwrap();
    reference
}

#[tokio::test]
async fn an_image_goes_from_an_archive_to_the_registry_to_layers_on_disk() {
    let world = World::new().await;
    let reference = push(&world, "web:1", "amd64").await;
    let env = Arc::new(SeededEnv::from_seed(1));
    let dir = tempfile::tempdir().unwrap();
    let puller = puller(dir.path(), &env, Mirrors::default());
    let events = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&events);
    let progress = Progress::new(move |event| told.lock().unwrap().push(event));
    let image = puller.pull(&reference, &login(&world), &progress).await.unwrap();
    assert_eq!(image.config.entrypoint, ["/bin/hello"]);
    assert_eq!(image.config.user, "1000");
    assert_eq!(image.layers.len(), 2);
    assert!(image.layers[0].join("bin/hello").is_file());
    assert!(image.layers[1].join("etc/motd").is_file());
    let done = events.lock().unwrap().iter().filter(|e| matches!(e, Event::Done { .. })).count();
    assert_eq!(done, 2);
    assert_eq!(std::fs::read_dir(dir.path().join("partial")).unwrap().count(), 0);
    assert_eq!(puller.store().list()[0].1, [reference]);
}

#[tokio::test]
async fn an_image_that_is_here_costs_no_layer() {
    let world = World::new().await;
    let reference = push(&world, "web:1", "amd64").await;
    let env = Arc::new(SeededEnv::from_seed(1));
    let dir = tempfile::tempdir().unwrap();
    let auth = login(&world);
    let first = puller(dir.path(), &env, Mirrors::default());
    let image = first.pull(&reference, &auth, &Progress::none()).await.unwrap();
    drop(first);
    // Another process finds what the first one pulled.
    let again = puller(dir.path(), &env, Mirrors::default());
    let quiet = Progress::new(|event| panic!("nothing should happen, but {event:?} did"));
    let same = again.pull(&reference, &auth, &quiet).await.unwrap();
    assert_eq!(same.layers, image.layers);
    let pinned = reference.by_digest(image.manifest_digest);
    let same = again.pull(&pinned, &auth, &quiet).await.unwrap();
    assert_eq!(same.layers, image.layers);
}

#[tokio::test]
async fn pulls_at_the_same_time_fetch_a_layer_once() {
    let world = World::new().await;
    let one = push(&world, "web:1", "amd64").await;
    let two = push(&world, "api:1", "amd64").await;
    let env = Arc::new(SeededEnv::from_seed(1));
    let dir = tempfile::tempdir().unwrap();
    let puller = puller(dir.path(), &env, Mirrors::default());
    let fetched = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&fetched);
    let progress = Progress::new(move |event| {
        if let Event::Unpacking { layer } = event {
            told.lock().unwrap().push(layer);
        }
    });
    let auth = login(&world);
    let pulls = [&one, &two, &one, &two].map(|name| puller.pull(name, &auth, &progress));
    let [a, b, c, d] = pulls;
    let (a, b, c, d) = tokio::join!(a, b, c, d);
    for image in [a, b, c, d] {
        assert_eq!(image.unwrap().layers.len(), 2);
    }
    assert_eq!(fetched.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn each_failure_says_what_happened() {
    let world = World::new().await;
    let reference = push(&world, "web:1", "arm64").await;
    let env = Arc::new(SeededEnv::from_seed(1));
    let dir = tempfile::tempdir().unwrap();
    let puller = puller(dir.path(), &env, Mirrors::default());
    let auth = login(&world);
    let pull = |name: String, auth: Auth| {
        let puller = &puller;
        async move {
            let reference = name.parse().unwrap();
            puller.pull(&reference, &auth, &Progress::none()).await.unwrap_err()
        }
    };
    let host = &world.host;
    let error = pull(reference.to_string(), auth.clone()).await;
    assert!(matches!(error, PullError::NoPlatform { .. }), "{error}");
    assert!(error.to_string().contains("matching platform 'linux/amd64'"), "{error}");
    let error = pull(format!("{host}/web:2"), auth.clone()).await;
    assert_eq!(
        error.to_string(),
        format!("failed to resolve ref {host}/web:2: {host}/web:2: not found")
    );
    let error = pull(format!("{host}/web:1"), Auth::none()).await;
    assert!(matches!(error, PullError::Denied { .. }), "{error}");
    let error = pull("127.0.0.1:1/web:1".to_owned(), auth.clone()).await;
    assert!(matches!(error, PullError::Unreachable { .. }), "{error}");
    let error = pull("no-such-host.invalid/web:1".to_owned(), auth).await;
    assert!(
        matches!(error, PullError::NoSuchHost { .. } | PullError::Unreachable { .. }),
        "{error}"
    );
    assert!(puller.store().list().is_empty());
}

#[tokio::test]
async fn a_layer_that_is_damaged_in_the_registry_is_refused_and_nothing_is_left() {
    let world = World::new().await;
    let reference = push(&world, "web:1", "amd64").await;
    let all = world.registry.blobs().list().unwrap();
    let size = |digest| world.registry.blobs().size(digest).unwrap().unwrap();
    let layer = all.iter().max_by_key(|digest| size(digest)).unwrap();
    let path = world.registry.blobs().path(layer);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let env = Arc::new(SeededEnv::from_seed(1));
    let dir = tempfile::tempdir().unwrap();
    let puller = puller(dir.path(), &env, Mirrors::default());
    let error = puller.pull(&reference, &login(&world), &Progress::none()).await.unwrap_err();
    assert!(matches!(error, PullError::Digest { .. }), "{error}");
    assert!(puller.store().list().is_empty());
    // What else was under way broke off wherever it was, and is gone on with from there.
    let blobs = all.iter().filter(|digest| *digest != layer);
    let good: Vec<Vec<u8>> =
        blobs.map(|digest| std::fs::read(world.registry.blobs().path(digest)).unwrap()).collect();
    for partial in std::fs::read_dir(dir.path().join("partial")).unwrap() {
        let kept = std::fs::read(partial.unwrap().path()).unwrap();
        assert!(good.iter().any(|blob| blob.starts_with(&kept)), "wrong bytes are not kept");
    }
}

#[tokio::test]
async fn names_of_amazons_registry_are_found_in_the_regions_own() {
    let world = World::new().await;
    push(&world, "web:1", "amd64").await;
    let env = Arc::new(SeededEnv::from_seed(1));
    let dir = tempfile::tempdir().unwrap();
    let mirrors = Mirrors { region_registry: Some(world.host.clone()), ..Mirrors::default() };
    let puller = puller(dir.path(), &env, mirrors);
    for name in ["123456789012.dkr.ecr.us-east-1.amazonaws.com/web:1", "web:1"] {
        let reference: Reference = name.parse().unwrap();
        let image = puller.pull(&reference, &login(&world), &Progress::none()).await.unwrap();
        assert_eq!(image.layers.len(), 2, "{name}");
        assert!(puller.store().list()[0].1.contains(&reference), "{name}");
    }
    let absent: Reference = "123456789012.dkr.ecr.us-east-1.amazonaws.com/web:9".parse().unwrap();
    let error = puller.pull(&absent, &login(&world), &Progress::none()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("failed to resolve ref {absent}: {absent}: not found"));
}

#[tokio::test]
async fn collection_takes_what_is_idle_and_spares_what_is_held_or_pinned() {
    let world = World::new().await;
    let reference = push(&world, "web:1", "amd64").await;
    let env = Arc::new(SeededEnv::from_seed(1));
    let dir = tempfile::tempdir().unwrap();
    let puller = puller(dir.path(), &env, Mirrors::default());
    let image = puller.pull(&reference, &login(&world), &Progress::none()).await.unwrap();
    let (layers, digest) = (image.layers.clone(), image.manifest_digest);
    let store = puller.store();
    env.advance_ms(10_000);
    assert_eq!(store.collect(&BTreeSet::new(), 5_000, None).unwrap().images, 0, "it is held");
    drop(image);
    assert_eq!(
        store.collect(&BTreeSet::from([digest]), 5_000, None).unwrap().images,
        0,
        "it is pinned"
    );
    assert_eq!(
        store.collect(&BTreeSet::new(), 20_000, None).unwrap().images,
        0,
        "it was just used"
    );
    let collected = store.collect(&BTreeSet::new(), 5_000, None).unwrap();
    assert_eq!((collected.images, collected.layers), (1, 2));
    assert!(!layers[0].exists());
    assert!(store.list().is_empty());
    assert!(store.blobs().list().unwrap().is_empty());
}

#[tokio::test]
async fn what_images_that_are_gone_were_described_by_goes_although_others_are_in_use() {
    let world = World::new().await;
    let env = Arc::new(SeededEnv::from_seed(1));
    let dir = tempfile::tempdir().unwrap();
    let puller = puller(dir.path(), &env, Mirrors::default());
    let kept = push(&world, "web:1", "amd64").await;
    let held = puller.pull(&kept, &login(&world), &Progress::none()).await.unwrap();
    let before = puller.store().blobs().list().unwrap().len();
    let wrong = push(&world, "web:2", "arm64").await;
    let error = puller.pull(&wrong, &login(&world), &Progress::none()).await.unwrap_err();
    assert!(matches!(error, PullError::NoPlatform { .. }), "{error}");
    assert!(puller.store().blobs().list().unwrap().len() > before, "its manifest was read");
    puller.store().collect(&BTreeSet::new(), u64::MAX, None).unwrap();
    assert_eq!(puller.store().blobs().list().unwrap().len(), before);
    drop(held);
    assert!(puller.pull(&kept, &login(&world), &Progress::none()).await.is_ok());
}

#[tokio::test]
async fn a_cache_that_is_too_large_loses_what_was_used_least_lately_and_nothing_that_is_held() {
    let world = World::new().await;
    let env = Arc::new(SeededEnv::from_seed(1));
    let dir = tempfile::tempdir().unwrap();
    let puller = puller(dir.path(), &env, Mirrors::default());
    let reference = push(&world, "web:1", "amd64").await;
    let image = puller.pull(&reference, &login(&world), &Progress::none()).await.unwrap();
    let store = puller.store();
    let within = |bytes| store.collect(&BTreeSet::new(), u64::MAX, Some(bytes)).unwrap().images;
    assert_eq!(within(0), 0, "it is held");
    assert!(image.layers.iter().all(|layer| layer.exists()));
    drop(image);
    assert_eq!(within(1 << 30), 0, "it fits");
    assert_eq!(within(0), 1);
    assert!(store.list().is_empty());
}
