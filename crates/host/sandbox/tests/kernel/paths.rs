//! What an image or another container puts at a path leads nobody to the host's files.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use sandbox::{GroupLimits, Mount};

use crate::world::World;

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn make_dir(world: &World, name: &str) -> PathBuf {
    let dir = world.dir.path().join(name);
    fs::create_dir_all(&dir).unwrap();
    dir
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_whose_dev_is_a_link_gets_nothing_made_where_it_points_to() {
    let Some(world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let host = make_dir(&world, "host");
    fs::write(host.join("ptmx"), "the host's").unwrap();
    for name in ["dev", "proc", "sys"] {
        let layer = make_dir(&world, &format!("layer-{name}"));
        symlink(&host, layer.join(name)).unwrap();
        let mut spec = world.shell("true");
        spec.rootfs.lower.push(layer);
        let refused = world.sandboxes.create(spec).await.unwrap_err().to_string();
        assert!(refused.contains(&format!("/{name}")), "{refused}");
        assert_eq!(names(&host), ["ptmx"]);
    }
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_in_a_shared_volume_puts_no_mount_under_the_devices() {
    let Some(world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let (shared, inner) = (make_dir(&world, "shared"), make_dir(&world, "inner"));
    // As another container that has the volume may leave it.
    symlink("/dev", shared.join("y")).unwrap();
    let mut spec = world.shell("ls /dev/null; : > /dev/mine");
    let mount = |source: &Path, destination: &str| Mount {
        source: source.to_owned(),
        destination: destination.into(),
        readonly: false,
    };
    spec.mounts = vec![mount(&shared, "/v"), mount(&inner, "/v/y")];
    let (exit, printed) = world.run(spec).await;
    assert_eq!((exit.code, printed.as_str()), (0, "/dev/null"));
    assert_eq!(names(&inner), Vec::<String>::new());
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_of_the_image_are_the_images_for_mounts_and_working_directories() {
    let Some(world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let (host, layer, volume) =
        (make_dir(&world, "host"), make_dir(&world, "layer"), make_dir(&world, "volume"));
    fs::write(volume.join("mine"), "").unwrap();
    symlink("/", layer.join("x")).unwrap();
    symlink(format!("{}{}", "../".repeat(20), host.display()), layer.join("up")).unwrap();
    let below_x = format!("/x{}/made", host.display());
    let mut spec = world.shell("pwd; ls");
    spec.rootfs.lower.push(layer.clone());
    spec.cwd = below_x.clone().into();
    spec.mounts = vec![Mount { source: volume, destination: below_x.into(), readonly: false }];
    let (exit, printed) = world.run(spec).await;
    assert_eq!(exit.code, 0, "{printed}");
    assert!(printed.ends_with("/made\nmine"), "{printed}");
    assert_eq!(names(&host), Vec::<String>::new());

    // A link that points to where the image has nothing is refused, and nothing is made elsewhere.
    let mut spec = world.shell("true");
    spec.rootfs.lower.push(layer);
    spec.cwd = "/up/made".into();
    assert!(world.sandboxes.create(spec).await.is_err());
    assert_eq!(names(&host), Vec::<String>::new());
    world.close().await;
}
