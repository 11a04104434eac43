//! The distribution protocol over a real port.
#![allow(clippy::disallowed_methods, reason = "tests write files as they like")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod fake;
mod front;
mod guards;
mod hardships;
mod hosts;
mod rights;
mod transfer;
mod uploads;
mod world;

use http::{Method, Request, StatusCode};
use http_body_util::Full;
use image::{Digest, Hasher};
use world::{ACCOUNT, OTHER, World, manifest, repository};

#[tokio::test]
async fn a_stranger_is_asked_for_credentials_and_learns_nothing() {
    let world = World::new().await;
    for path in ["/v2/", "/v2/web/tags/list", "/v2/nothing/tags/list", "/v2/..", "/v2/_catalog"] {
        let request = Request::get(format!("http://{}{path}", world.host));
        let got = world.send(request.body(Full::default()).unwrap()).await;
        assert_eq!(got.status, StatusCode::UNAUTHORIZED, "{path}");
        assert!(got.header("www-authenticate").starts_with("Basic realm="), "{path}");
        assert_eq!(got.code(), "UNAUTHORIZED");
    }
    let got = world.get("/v2/").await;
    assert_eq!(got.status, StatusCode::OK);
    assert_eq!(got.header("docker-distribution-api-version"), "registry/2.0");
    let got = world.ask_as("12", Method::GET, "/v2/", &[], "").await;
    assert_eq!(got.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn an_account_sees_its_own_repositories_only() {
    let world = World::new().await;
    let digest = world.push_blob("web", b"ours").await;
    let path = format!("/v2/web/blobs/{digest}");
    assert_eq!(world.get(&path).await.body, "ours");
    let theirs = world.ask_as(OTHER, Method::GET, &path, &[], "").await;
    assert_eq!((theirs.status, theirs.code()), (StatusCode::NOT_FOUND, "BLOB_UNKNOWN".to_owned()));
    let mount = format!("/v2/web/blobs/uploads/?mount={digest}&from=web");
    let theirs = world.ask_as(OTHER, Method::POST, &mount, &[], "").await;
    assert_eq!(theirs.status, StatusCode::ACCEPTED);
    let elsewhere = world.get(&format!("/v2/api/blobs/{digest}")).await;
    assert_eq!(elsewhere.status, StatusCode::NOT_FOUND);
    let list = world.ask_as(OTHER, Method::GET, "/v2/_catalog", &[], "").await.json();
    assert_eq!(list["repositories"], serde_json::json!(["web"]));
}

#[tokio::test]
async fn who_may_not_is_told_so_before_anything_of_what_there_is() {
    let world = World::new().await;
    let digest = world.push_blob("web", b"ours").await;
    let puller = format!("{ACCOUNT}/GetManifest,GetBlob,CheckBlob");
    let got = world.ask_as(&puller, Method::GET, &format!("/v2/web/blobs/{digest}"), &[], "").await;
    assert_eq!(got.body, "ours");
    for name in ["web", "none"] {
        let path = format!("/v2/{name}/blobs/uploads/");
        let denied = world.ask_as(&puller, Method::POST, &path, &[], "").await;
        let code = denied.code();
        assert_eq!((denied.status, code.as_str()), (StatusCode::FORBIDDEN, "DENIED"), "{name}");
    }
    // A layer is mounted by whoever may have it where it is; for others it is one to be uploaded.
    let mount = format!("/v2/api/blobs/uploads/?mount={digest}&from=web");
    let pusher = format!("{ACCOUNT}/StartUpload,UploadPart,CompleteUpload");
    let sent = world.ask_as(&pusher, Method::POST, &mount, &[], "").await;
    assert_eq!(sent.status, StatusCode::ACCEPTED);
    let both = format!("{pusher},CheckBlob,GetBlob");
    let mounted = world.ask_as(&both, Method::POST, &mount, &[], "").await;
    assert_eq!(mounted.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_blob_is_uploaded_in_chunks_that_must_follow_each_other() {
    let world = World::new().await;
    let started = world.ask(Method::POST, "/v2/web/blobs/uploads/", "").await;
    assert_eq!(started.status, StatusCode::ACCEPTED);
    let upload = started.header("location").to_owned();
    assert!(!started.header("docker-upload-uuid").is_empty());

    let chunk = |range: &'static str, body: &'static str| {
        let (world, upload) = (&world, &upload);
        async move {
            world.ask_as(ACCOUNT, Method::PATCH, upload, &[("content-range", range)], body).await
        }
    };
    let first = chunk("0-4", "hello").await;
    assert_eq!((first.status, first.header("range")), (StatusCode::ACCEPTED, "0-4"));
    for (range, body) in [("0-4", "hello"), ("6-6", "x"), ("5-9", "x"), ("nonsense", "x")] {
        let wrong = chunk(range, body).await;
        assert_eq!(wrong.status, StatusCode::RANGE_NOT_SATISFIABLE, "{range}");
        assert_eq!(wrong.header("range"), "0-4");
        assert_eq!(wrong.header("location"), upload);
    }
    let second = chunk("5-10", " world").await;
    assert_eq!(second.header("range"), "0-10");
    let status = world.get(&upload).await;
    assert_eq!((status.status, status.header("range")), (StatusCode::NO_CONTENT, "0-10"));

    let wrong = world.ask(Method::PUT, &format!("{upload}?digest=sha256:12"), "").await;
    assert_eq!((wrong.status, wrong.code().as_str()), (StatusCode::BAD_REQUEST, "DIGEST_INVALID"));
    let other = Hasher::digest(b"other");
    let wrong = world.ask(Method::PUT, &format!("{upload}?digest={other}"), "").await;
    assert_eq!((wrong.status, wrong.code().as_str()), (StatusCode::BAD_REQUEST, "DIGEST_INVALID"));
    let digest = Hasher::digest(b"hello world!");
    let done = world.ask(Method::PUT, &format!("{upload}?digest={digest}"), "!").await;
    assert_eq!(done.status, StatusCode::CREATED, "{done:?}");
    assert_eq!(done.header("docker-content-digest"), digest.to_string());
    let blob = world.get(done.header("location")).await;
    assert_eq!(blob.body, "hello world!");
    assert_eq!(world.get(&upload).await.code(), "BLOB_UPLOAD_UNKNOWN");
}

#[tokio::test]
async fn an_upload_survives_a_restart_and_goes_on_where_it_was() {
    let world = World::new().await;
    let started = world.ask(Method::POST, "/v2/web/blobs/uploads/", "").await;
    let upload = started.header("location").to_owned();
    world.ask(Method::PATCH, &upload, "hello").await;
    let world = world.restart().await;
    let status = world.get(&upload).await;
    assert_eq!((status.status, status.header("range")), (StatusCode::NO_CONTENT, "0-4"));
    let digest = Hasher::digest(b"hello!");
    let done = world.ask(Method::PUT, &format!("{upload}?digest={digest}"), "!").await;
    assert_eq!(done.status, StatusCode::CREATED, "{done:?}");
    let theirs = world.ask_as(OTHER, Method::GET, &upload, &[], "").await;
    assert_eq!(theirs.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_cancelled_upload_is_gone_and_leaves_no_file() {
    let world = World::new().await;
    let started = world.ask(Method::POST, "/v2/web/blobs/uploads/", "").await;
    let upload = started.header("location").to_owned();
    world.ask(Method::PATCH, &upload, "hello").await;
    assert_eq!(world.ask(Method::DELETE, &upload, "").await.status, StatusCode::NO_CONTENT);
    assert_eq!(world.get(&upload).await.status, StatusCode::NOT_FOUND);
    assert_eq!(std::fs::read_dir(world.dir.path().join("uploads")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_blob_is_mounted_from_another_repository_of_the_account() {
    let world = World::new().await;
    let digest = world.push_blob("web", b"shared").await;
    let path = format!("/v2/api/blobs/uploads/?mount={digest}&from=web");
    let mounted = world.ask(Method::POST, &path, "").await;
    assert_eq!(mounted.status, StatusCode::CREATED);
    assert_eq!(world.get(&format!("/v2/api/blobs/{digest}")).await.body, "shared");
    let absent = Hasher::digest(b"absent");
    let path = format!("/v2/api/blobs/uploads/?mount={absent}&from=web");
    assert_eq!(world.ask(Method::POST, &path, "").await.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn part_of_a_blob_is_answered_to_who_asks_for_part() {
    let world = World::new().await;
    let digest = world.push_blob("web", b"0123456789").await;
    let path = format!("/v2/web/blobs/{digest}");
    let ask = |range: &'static str| {
        let (world, path) = (&world, &path);
        async move { world.ask_as(ACCOUNT, Method::GET, path, &[("range", range)], "").await }
    };
    let part = ask("bytes=2-5").await;
    assert_eq!((part.status, part.body.as_ref()), (StatusCode::PARTIAL_CONTENT, &b"2345"[..]));
    assert_eq!(part.header("content-range"), "bytes 2-5/10");
    assert_eq!(ask("bytes=8-").await.body, "89");
    let beyond = ask("bytes=10-").await;
    assert_eq!(beyond.status, StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(beyond.header("content-range"), "bytes */10");
    let head = world.ask(Method::HEAD, &path, "").await;
    assert_eq!((head.status, head.header("content-length")), (StatusCode::OK, "10"));
    assert!(head.body.is_empty());
}

#[tokio::test]
async fn a_manifest_is_got_by_tag_and_by_digest_as_it_was_put() {
    let world = World::new().await;
    let (digest, put) = world.push_image("web", "v1", b"layer").await;
    assert_eq!(put.status, StatusCode::CREATED, "{put:?}");
    assert_eq!(put.header("docker-content-digest"), digest.to_string());
    for identifier in ["v1", &digest.to_string()] {
        let got = world.get(&format!("/v2/web/manifests/{identifier}")).await;
        assert_eq!(Hasher::digest(&got.body), digest);
        assert_eq!(got.header("content-type"), image::manifest::OCI_MANIFEST);
        let head = world.ask(Method::HEAD, &format!("/v2/web/manifests/{identifier}"), "").await;
        assert_eq!(head.header("docker-content-digest"), digest.to_string());
        assert_eq!(head.header("content-length"), got.body.len().to_string());
    }
    let absent = world.get("/v2/web/manifests/v2").await;
    assert_eq!(
        (absent.status, absent.code().as_str()),
        (StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN")
    );
    let nowhere = world.get("/v2/nothing/manifests/v1").await;
    assert_eq!((nowhere.status, nowhere.code().as_str()), (StatusCode::NOT_FOUND, "NAME_UNKNOWN"));
}

#[tokio::test]
async fn a_manifest_that_cannot_be_true_is_refused() {
    let world = World::new().await;
    let config = world.push_blob("web", b"config").await;
    let absent = Hasher::digest(b"absent");
    let (_, got) = world.put_manifest("web", "v1", &manifest(&config, &absent, "")).await;
    assert_eq!((got.status, got.code().as_str()), (StatusCode::NOT_FOUND, "MANIFEST_BLOB_UNKNOWN"));
    let layer = world.push_blob("web", b"layer").await;
    let good = manifest(&config, &layer, "");
    let (_, got) = world.put_manifest("web", &absent.to_string(), &good).await;
    assert_eq!((got.status, got.code().as_str()), (StatusCode::BAD_REQUEST, "DIGEST_INVALID"));
    for (identifier, body, code) in [
        ("v1", "<html>", "MANIFEST_INVALID"),
        ("v1", r#"{"schemaVersion":1}"#, "MANIFEST_INVALID"),
        ("-v1", &good, "TAG_INVALID"),
    ] {
        let (_, got) = world.put_manifest("web", identifier, body).await;
        assert_eq!((got.status, got.code().as_str()), (StatusCode::BAD_REQUEST, code), "{body}");
    }
    let huge = " ".repeat((4 << 20) + 1);
    let (_, got) = world.put_manifest("web", "v1", &huge).await;
    assert_eq!(got.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(world.get("/v2/web/tags/list").await.json()["tags"], serde_json::json!([]));
}

#[tokio::test]
async fn a_fixed_tag_is_not_moved() {
    let world = World::new().await;
    let (first, put) = world.push_image("fixed", "v1", b"layer").await;
    assert_eq!(put.status, StatusCode::CREATED);
    let (again, put) = world.push_image("fixed", "v1", b"layer").await;
    assert_eq!((again, put.status), (first, StatusCode::CREATED));
    let (_, put) = world.push_image("fixed", "v1", b"other").await;
    assert_eq!((put.status, put.code().as_str()), (StatusCode::CONFLICT, "TAG_INVALID"));
    assert!(put.json()["errors"][0]["message"].as_str().unwrap().contains("cannot be overwritten"));
    let now = world.ask(Method::HEAD, "/v2/fixed/manifests/v1", "").await;
    assert_eq!(now.header("docker-content-digest"), first.to_string());
}

#[tokio::test]
async fn tags_are_listed_page_by_page() {
    let world = World::new().await;
    for tag in ["c", "a", "b"] {
        world.push_image("team/app", tag, b"layer").await;
    }
    let first = world.get("/v2/team/app/tags/list?n=2").await;
    assert_eq!(first.json()["tags"], serde_json::json!(["a", "b"]));
    assert_eq!(first.header("link"), "</v2/team/app/tags/list?n=2&last=b>; rel=\"next\"");
    let second = world.get("/v2/team/app/tags/list?n=2&last=b").await;
    assert_eq!(second.json()["tags"], serde_json::json!(["c"]));
    assert_eq!(second.header("link"), "");
    assert_eq!(world.get("/v2/team/app/tags/list?n=x").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn an_index_needs_its_images_and_keeps_them() {
    let world = World::new().await;
    let (child, _) = world.push_image("web", "v1", b"layer").await;
    let index = |digest: &Digest| {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{{"mediaType":"{}","digest":"{digest}","size":1,"platform":{{"os":"linux","architecture":"amd64"}}}}]}}"#,
            image::manifest::OCI_INDEX,
            image::manifest::OCI_MANIFEST
        )
    };
    let (_, got) = world.put_manifest("web", "all", &index(&Hasher::digest(b"absent"))).await;
    assert_eq!(got.code(), "MANIFEST_BLOB_UNKNOWN");
    let (_, got) = world.put_manifest("web", "all", &index(&child)).await;
    assert_eq!(got.status, StatusCode::CREATED, "{got:?}");
    let refused = world.ask(Method::DELETE, &format!("/v2/web/manifests/{child}"), "").await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert_eq!(
        world.ask(Method::DELETE, "/v2/web/manifests/all", "").await.status,
        StatusCode::ACCEPTED
    );
}

#[tokio::test]
async fn what_refers_to_an_image_is_listed() {
    let world = World::new().await;
    let (subject, _) = world.push_image("web", "v1", b"layer").await;
    let config = world.push_blob("web", b"{}").await;
    let layer = world.push_blob("web", b"signature").await;
    let said = format!(
        r#""artifactType":"application/x.signature","subject":{{"mediaType":"x","digest":"{subject}","size":1}},"#
    );
    let (digest, put) = {
        let body = manifest(&config, &layer, &said);
        let digest = Hasher::digest(body.as_bytes());
        world.put_manifest("web", &digest.to_string(), &body).await
    };
    assert_eq!(put.header("oci-subject"), subject.to_string(), "{put:?}");
    let list = world.get(&format!("/v2/web/referrers/{subject}")).await;
    assert_eq!(list.header("content-type"), image::manifest::OCI_INDEX);
    assert_eq!(list.json()["manifests"][0]["digest"], digest.to_string());
    assert_eq!(list.json()["manifests"][0]["artifactType"], "application/x.signature");
    let other = world.get(&format!("/v2/web/referrers/{subject}?artifactType=other")).await;
    assert_eq!(other.json()["manifests"], serde_json::json!([]));
    assert_eq!(other.header("oci-filters-applied"), "artifactType");
    let none = world.get(&format!("/v2/web/referrers/{}", Hasher::digest(b"none"))).await;
    assert_eq!((none.status, &none.json()["manifests"]), (StatusCode::OK, &serde_json::json!([])));
}

#[tokio::test]
async fn manifests_tags_and_blobs_are_deleted() {
    let world = World::new().await;
    let (digest, _) = world.push_image("web", "v1", b"layer").await;
    let again = world.get(&format!("/v2/web/manifests/{digest}")).await.body;
    let again = String::from_utf8(again.to_vec()).unwrap();
    world.put_manifest("web", "v2", &again).await;
    let delete = |path: String| {
        let world = &world;
        async move { world.ask(Method::DELETE, &path, "").await.status }
    };
    let layer = Hasher::digest(b"layer");
    let refused = world.ask(Method::DELETE, &format!("/v2/web/blobs/{layer}"), "").await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "an image has it");
    assert!(refused.json().to_string().contains(&digest.to_string()), "{}", refused.json());
    assert_eq!(world.get(&format!("/v2/web/blobs/{layer}")).await.status, StatusCode::OK);
    assert_eq!(delete("/v2/web/manifests/v1".to_owned()).await, StatusCode::ACCEPTED);
    assert_eq!(world.get("/v2/web/manifests/v1").await.status, StatusCode::NOT_FOUND);
    assert_eq!(world.get("/v2/web/manifests/v2").await.status, StatusCode::OK);
    assert_eq!(delete(format!("/v2/web/manifests/{digest}")).await, StatusCode::ACCEPTED);
    assert_eq!(world.get("/v2/web/manifests/v2").await.status, StatusCode::NOT_FOUND);
    assert_eq!(delete(format!("/v2/web/manifests/{digest}")).await, StatusCode::NOT_FOUND);
    assert_eq!(delete(format!("/v2/web/blobs/{layer}")).await, StatusCode::ACCEPTED);
    assert_eq!(world.get(&format!("/v2/web/blobs/{layer}")).await.status, StatusCode::NOT_FOUND);
    assert_eq!(delete(format!("/v2/web/blobs/{layer}")).await, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_sweep_removes_only_what_is_old_and_belongs_to_nobody() {
    let world = World::new().await;
    let (_, put) = world.push_image("web", "v1", b"kept").await;
    assert_eq!(put.status, StatusCode::CREATED);
    let young = Hasher::digest(b"young");
    let old = Hasher::digest(b"old");
    for (digest, text) in [(young, "young"), (old, "old")] {
        world.registry.blobs().put(text.as_bytes()).unwrap();
        assert!(world.registry.blobs().size(&digest).unwrap().is_some());
    }
    let hours_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    let all = world.registry.blobs().list().unwrap();
    for digest in all.iter().filter(|digest| **digest != young) {
        let file = std::fs::File::open(world.registry.blobs().path(digest)).unwrap();
        file.set_modified(hours_ago).unwrap();
    }
    let swept = world.registry.sweep().await.unwrap();
    assert_eq!(swept.blobs, 1, "{swept:?}");
    assert!(world.registry.blobs().size(&old).unwrap().is_none());
    assert!(world.registry.blobs().size(&young).unwrap().is_some());
    assert_eq!(world.get(&format!("/v2/web/blobs/{}", Hasher::digest(b"kept"))).await.body, "kept");
    assert!(registry::Catalog::has_repository(
        world.registry.catalog(),
        &repository(ACCOUNT, "web")
    ));
}
