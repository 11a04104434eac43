//! What a container's files take is seen, however it hides them.

use sandbox::StorageUse;

use crate::world::World;

const MIB: u64 = 1 << 20;

async fn used(world: &World, scratch: &std::path::Path) -> StorageUse {
    world.sandboxes.storage(&world.group, vec![scratch.to_owned()]).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_counted_also_when_they_are_removed_and_held_open() {
    let Some(world) = World::open() else { return };
    world.limit(Default::default()).await;
    let script = "dd if=/dev/zero of=/tmp/plain bs=1M count=8 2>/dev/null; \
                  exec 5>/tmp/hidden; rm /tmp/hidden; dd if=/dev/zero bs=1M count=16 >&5 2>/dev/null; \
                  dd if=/dev/zero of=/dev/shm/memory bs=1M count=4 2>/dev/null; \
                  echo done >/tmp/ready; sleep 100";
    let spec = world.shell(script);
    let scratch = spec.rootfs.scratch.clone();
    let id = world.start(spec).await;
    let deadline = tokio::time::Instant::now() + crate::world::SOON;
    while !scratch.join("upper/tmp/ready").exists() {
        assert!(tokio::time::Instant::now() < deadline, "the container does not write");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let bytes = used(&world, &scratch).await.bytes;
    // What lies in memory is the memory limit's.
    assert!((24 * MIB..26 * MIB).contains(&bytes), "{bytes}");
    world.sandboxes.delete(&id).await.unwrap();
    assert_eq!(used(&world, &scratch).await, StorageUse::default());
    let room = world.sandboxes.disk_room(world.dir.path().to_owned()).await.unwrap();
    assert!(0 < room.bytes_free && room.bytes_free < room.bytes, "{room:?}");
    world.close().await;
}
