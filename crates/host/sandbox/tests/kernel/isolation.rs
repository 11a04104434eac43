//! What a container can see and do.

use std::fs;

use sandbox::{
    ContainerSpec, DeviceBind, FileBind, GroupLimits, Hook, HookPoint, IpcMode, Mount, NetMode,
    PidMode, SandboxError, Signal, Tmpfs, Ulimit,
};

use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_is_alone_in_its_namespaces() {
    let Some(world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let mut spec = world.shell(
        "echo pid $$; hostname; ls -d /proc/[0-9]* | wc -l; ls /sys/class/net; \
         cat /proc/self/cgroup | cut -d: -f3 | sort -u; wc -l < /proc/mounts; \
         grep -c longshore /proc/mounts; ls -A /; ls /dev | tr '\\n' ' '",
    );
    spec.hostname = Some("my-host".into());
    let (exit, printed) = world.run(spec).await;
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(exit.code, 0, "{printed}");
    assert_eq!(lines[..2], ["pid 1", "my-host"], "{printed}");
    assert!(lines[2].parse::<u32>().unwrap() <= 5, "only its own processes: {printed}");
    assert_eq!(lines[3], "lo", "{printed}");
    assert_eq!(lines[4], "/", "its control group looks like the root: {printed}");
    for absent in ["/host", "vda", "sda", "mem", "kmsg"] {
        assert!(!lines.last().unwrap().split(' ').any(|name| name == absent), "{printed}");
    }
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_tells_of_the_host_is_masked_or_read_only() {
    let Some(world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let (_, printed) = world
        .run(world.shell(
            "wc -c < /proc/interrupts; wc -c < /proc/keys; ls /sys/firmware | wc -l; \
             echo 1 2>&1 > /proc/sys/kernel/panic || echo refused; \
             echo 2>&1 > /proc/irq/default_smp_affinity || echo refused; \
             mkdir /sys/fs/cgroup/*/x 2>/dev/null || echo refused; \
             echo 1 2>&1 > /sys/kernel/mm/ksm/run || echo refused",
        ))
        .await;
    let plain: Vec<&str> = printed.lines().filter(|line| !line.contains("can't create")).collect();
    let expected = ["0", "0", "0", "refused", "refused", "refused", "refused"];
    assert_eq!(plain, expected, "{printed}");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn capabilities_are_dockers_less_what_is_dropped_plus_what_is_added() {
    let Some(world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let show = "grep -E 'Cap(Eff|Prm|Bnd|Inh|Amb)' /proc/self/status | cut -f2 | tr '\\n' ' '";
    let (_, default) = world.run(world.shell(show)).await;
    // Inherited, permitted, effective, bounding, ambient.
    let docker = "00000000a80425fb";
    let none = "0000000000000000";
    assert_eq!(default.trim(), format!("{none} {docker} {docker} {docker} {none}"));

    let mut spec = world.shell(show);
    spec.cap_drop = vec!["ALL".into()];
    spec.cap_add = vec!["NET_BIND_SERVICE".into()];
    let (_, one) = world.run(spec).await;
    let bind = "0000000000000400";
    assert_eq!(one.trim(), format!("{none} {bind} {bind} {bind} {none}"));

    let mut spec = world.shell(show);
    spec.user = "web".into();
    let (_, user) = world.run(spec).await;
    assert_eq!(user.trim(), format!("{none} {none} {none} {docker} {none}"));
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_filter_refuses_what_acts_on_the_host() {
    let Some(world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let script = "grep Seccomp: /proc/self/status | cut -f2; \
         unshare -U true 2>/dev/null && echo unshared; \
         unshare -m true 2>/dev/null && echo unshared; \
         mount -t tmpfs tmpfs /tmp 2>/dev/null && echo mounted; \
         swapon /tmp 2>/dev/null && echo swapped; \
         chroot / /bin/true && echo chrooted";
    let (_, filtered) = world.run(world.shell(script)).await;
    assert_eq!(filtered.lines().collect::<Vec<_>>(), ["2", "chrooted"], "{filtered}");

    let mut spec = world.shell(script);
    spec.privileged = true;
    let (_, privileged) = world.run(spec).await;
    let expected = ["0", "unshared", "unshared", "mounted", "chrooted"];
    assert_eq!(privileged.lines().collect::<Vec<_>>(), expected, "{privileged}");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_root_takes_writes_only_where_something_else_is_mounted() {
    let Some(world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let volume = tempfile::tempdir().unwrap();
    fs::write(volume.path().join("given"), "from the host").unwrap();
    let mount = |destination: &str, readonly| Mount {
        source: volume.path().to_owned(),
        destination: destination.into(),
        readonly,
    };
    let mut spec = world.shell(
        "touch /x 2>/dev/null && echo root; touch /rw/made && echo volume; \
         touch /ro/made2 2>/dev/null && echo ro; touch /scratch/x && echo tmpfs; \
         cat /ro/given; echo; touch /etc/hosts 2>/dev/null && echo hosts; cat /etc/hosts; \
         df -k /scratch | tail -1 | awk '{print $2}'",
    );
    spec.rootfs.readonly = true;
    spec.mounts = vec![mount("/rw", false), mount("/ro", true)];
    let size = Some(1 << 20);
    spec.tmpfs = vec![Tmpfs { destination: "/scratch".into(), size, options: vec![] }];
    let hosts = volume.path().join("hosts");
    fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
    spec.files = vec![FileBind { source: hosts, destination: "/etc/hosts".into(), readonly: true }];
    let (_, printed) = world.run(spec).await;
    let expected = ["volume", "tmpfs", "from the host", "127.0.0.1 localhost", "1024"];
    assert_eq!(printed.lines().collect::<Vec<_>>(), expected);
    assert!(volume.path().join("made").exists(), "a volume is the host's directory");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_user_is_who_the_image_says() {
    let Some(world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let show = "id -u; id -g; id -G; echo $HOME; pwd";
    for (user, expected) in [
        ("", ["0", "0", "0", "/root", "/made/here"]),
        ("web", ["101", "102", "102 29", "/home/web", "/made/here"]),
        ("101:29", ["101", "29", "29", "/home/web", "/made/here"]),
        ("4711:12", ["4711", "12", "12", "/", "/made/here"]),
    ] {
        let mut spec = world.shell(show);
        spec.user = user.into();
        spec.cwd = "/made/here".into();
        let (_, printed) = world.run(spec).await;
        assert_eq!(printed.lines().collect::<Vec<_>>(), expected, "user {user:?}");
    }
    let mut spec = world.shell(show);
    spec.user = "nobody-here".into();
    let refused = world.sandboxes.create(spec).await;
    assert!(matches!(refused, Err(SandboxError::NoSuchUser { .. })), "{refused:?}");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_start_says_precisely_why() {
    let Some(world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    for args in [&["no-such-thing"][..], &["/bin/no-such-thing"], &["/etc"], &["/etc/passwd"]] {
        let spec = world.spec(args);
        let id = spec.id.clone();
        world.sandboxes.create(spec).await.unwrap();
        let error = world.sandboxes.start(&id).await.unwrap_err();
        let is_as_expected = match args[0] {
            "no-such-thing" => matches!(
                &error,
                SandboxError::NoSuchCommand { command, looked_in }
                    if command == args[0] && looked_in.contains(&"/usr/bin".to_owned())
            ),
            "/bin/no-such-thing" => matches!(
                &error,
                SandboxError::NoSuchCommand { looked_in, .. } if looked_in == args
            ),
            _ => matches!(&error, SandboxError::NotExecutable { .. }),
        };
        assert!(is_as_expected, "{args:?}: {error:?}");
        world.sandboxes.delete(&id).await.unwrap();
    }
    let mut spec = world.shell("true");
    let (source, destination) = ("/no/such/source".into(), "/data".into());
    spec.mounts = vec![Mount { source, destination, readonly: false }];
    let refused = world.sandboxes.create(spec).await;
    assert!(matches!(refused, Err(SandboxError::Mount { .. })), "{refused:?}");
    let mut spec = world.shell("true");
    spec.ulimits = vec![Ulimit { name: "nofile".into(), soft: 10, hard: 5 }];
    let refused = world.sandboxes.create(spec).await;
    assert!(matches!(refused, Err(SandboxError::Limit { .. })), "{refused:?}");
    let mut spec = world.shell("true");
    spec.cwd = "/etc/passwd/below".into();
    let refused = world.sandboxes.create(spec).await;
    assert!(matches!(refused, Err(SandboxError::WorkingDirectory { .. })), "{refused:?}");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_smaller_settings_reach_the_container() {
    let Some(world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let mut spec = world.shell(
        "ulimit -n; ulimit -Hn; cat /proc/sys/net/core/somaxconn; cat /proc/sys/kernel/msgmax; \
         df -k /dev/shm | tail -1 | awk '{print $2}'; ls -l /dev/mine | cut -c1; \
         head -c 1 /dev/mine | wc -c; echo \"$GREETING\"; grep NoNewPrivs /proc/self/status | cut -f2; \
         grep SigIgn /proc/self/status | cut -f2",
    );
    spec.ulimits = vec![Ulimit { name: "nofile".into(), soft: 100, hard: 200 }];
    spec.sysctls.insert("net.core.somaxconn".into(), "77".into());
    spec.sysctls.insert("kernel.msgmax".into(), "9999".into());
    spec.shm_size = Some(2 << 20);
    spec.env = vec![("GREETING".into(), "hello = world".into())];
    spec.no_new_privileges = true;
    spec.devices = vec![DeviceBind {
        host: "/dev/zero".into(),
        container: "/dev/mine".into(),
        read: true,
        write: false,
        mknod: false,
    }];
    let (_, printed) = world.run(spec).await;
    let expected =
        ["100", "200", "77", "9999", "2048", "c", "1", "hello = world", "1", "0000000000000000"];
    assert_eq!(printed.lines().collect::<Vec<_>>(), expected);
    world.close().await;
}

/// As the hooks of GPUs' makers do, which make the linker's cache anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hooks_of_the_host_change_the_root_before_the_container_runs_and_one_that_fails_is_told() {
    let Some(world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let script = r#"
        state=$(cat)
        bundle=$(echo "$state" | sed 's/.*"bundle":"\([^"]*\)".*/\1/')
        root=$(sed 's/.*"root":{"path":"\([^"]*\)".*/\1/' "$bundle/config.json" || exit 3)
        echo "$0 $1 $GREETING ${HOME-none}" >> "$root/etc/hooked"
    "#;
    let hook = |at: HookPoint, script: &str, argument: &str| Hook {
        at,
        path: "/bin/sh".into(),
        args: ["sh", "-c", script, "hook", argument].map(str::to_owned).to_vec(),
        env: vec!["GREETING=hello".to_owned(), "PATH=/usr/bin:/bin".to_owned()],
        timeout_seconds: 10,
    };
    let mut spec = world.shell("cat /etc/hooked");
    spec.rootfs.readonly = true;
    spec.hooks = vec![
        hook(HookPoint::CreateContainer, script, "second"),
        hook(HookPoint::CreateContainer, script, "third"),
    ];
    let (_, printed) = world.run(spec).await;
    assert_eq!(printed, "hook second hello none\nhook third hello none");

    let mut spec = world.shell("true");
    spec.hooks = vec![hook(HookPoint::CreateRuntime, "exit 7", "")];
    let error = world.sandboxes.create(spec).await.unwrap_err().to_string();
    assert!(error.contains("hook") && error.contains('7'), "{error}");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_was_not_given_cannot_be_opened_even_if_made() {
    let Some(world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let script =
        "mknod /tmp/mem c 1 1 && head -c 1 /tmp/mem 2>&1 >/dev/null | grep -o 'not permitted'";
    let (_, printed) = world.run(world.shell(script)).await;
    assert_eq!(printed, "not permitted");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_of_a_task_can_share_processes_memory_and_network() {
    let Some(world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let mut owner = world.shell("echo shared > /dev/shm/note; while :; do sleep 1; done");
    owner.hostname = Some("owner".into());
    let owner = world.start(owner).await;
    let pid = world.sandboxes.recover().await.unwrap()[0].pid.unwrap();
    while world.exec(&owner, "cat /dev/shm/note").await.1 != "shared" {}

    let mut guest = world.shell(
        "cat /dev/shm/note; tr '\\0' ' ' < /proc/1/cmdline | cut -c1-11; readlink /proc/self/ns/net; \
         ls -d /proc/[0-9]* | wc -l",
    );
    guest.pid = PidMode::Join(owner.clone());
    guest.ipc = IpcMode::Join(owner.clone());
    guest.netns = NetMode::Path(format!("/proc/{pid}/ns/net").into());
    let (exit, printed) = world.run(guest).await;
    let net = fs::read_link(format!("/proc/{pid}/ns/net")).unwrap().display().to_string();
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(exit.code, 0, "{printed}");
    assert_eq!(lines[..3], ["shared", "/bin/sh -c ", net.as_str()], "{printed}");
    assert!(lines[3].parse::<u32>().unwrap() >= 2, "both see each other: {printed}");
    world.sandboxes.delete(&owner).await.unwrap();
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_for_a_task_outlives_each_of_its_containers_and_has_no_rights() {
    let Some(world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let scratch = world.dir.path().join("held");
    let pause = ContainerSpec::pause("held".parse().unwrap(), world.group.clone(), scratch);
    let holder = pause.id.clone();
    let pid = async || {
        let found = world.sandboxes.recover().await.unwrap();
        found.into_iter().find(|each| each.id == holder).unwrap().pid.unwrap()
    };
    world.sandboxes.hold(pause.clone()).await.unwrap();
    let first = pid().await;
    let joined = |script: &str| {
        let mut spec = world.shell(script);
        spec.pid = PidMode::Join(holder.clone());
        spec.ipc = IpcMode::Join(holder.clone());
        spec
    };
    let (exit, printed) = world
        .run(joined(
            "echo kept > /dev/shm/note; cat /proc/1/comm; tr '\\0' '\\n' < /proc/1/cmdline | wc -l; \
             kill -9 1; kill -15 1; (sleep 0.1 &) & exit 3",
        ))
        .await;
    assert_eq!(exit.code, 3, "{printed}");
    assert_eq!(printed.lines().next(), Some("pause"), "{printed}");
    let (exit, printed) =
        world.run(joined("cat /dev/shm/note; cat /proc/[0-9]*/status | grep -c 'State:.*Z'")).await;
    assert_eq!(printed, "kept\n0", "{exit:?}");
    // Asked again it is the same one, and what became of it is made good.
    world.sandboxes.hold(pause.clone()).await.unwrap();
    assert_eq!(pid().await, first);
    let status = fs::read_to_string(format!("/proc/{first}/status")).unwrap();
    let line = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap();
    for name in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(line(name).ends_with("\t0000000000000000"), "{}", line(name));
    }
    assert!(line("Uid").starts_with("Uid:\t65535"), "{}", line("Uid"));
    assert_eq!((line("Seccomp:"), line("NoNewPrivs")), ("Seccomp:\t2", "NoNewPrivs:\t1"));
    let open = fs::read_dir(format!("/proc/{first}/fd")).unwrap().count();
    assert_eq!(open, 3, "what it inherited is closed");
    world.sandboxes.signal(&holder, Signal::SIGKILL).await.unwrap();
    world.sandboxes.wait(&holder).await.unwrap();
    world.sandboxes.hold(pause).await.unwrap();
    assert_ne!(pid().await, first);
    let (exit, _) = world.run(joined("exit 4")).await;
    assert_eq!(exit.code, 4);
    world.sandboxes.delete(&holder).await.unwrap();
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hosts_processes_and_network_are_seen_only_on_request() {
    let Some(world) = World::open() else { return };
    world.limit(GroupLimits::default()).await;
    let mut spec = world.shell("for kind in net pid ipc; do readlink /proc/self/ns/$kind; done");
    spec.netns = NetMode::Host;
    spec.pid = PidMode::Host;
    spec.ipc = IpcMode::Host;
    let (_, printed) = world.run(spec).await;
    let own = |kind: &str| fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
    let expected = ["net", "pid", "ipc"].map(|kind| own(kind).display().to_string());
    assert_eq!(printed.lines().collect::<Vec<_>>(), expected);
    world.close().await;
}
