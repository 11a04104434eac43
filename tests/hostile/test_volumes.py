"""Paths that an image or a container chose: nothing of the host is read or written by them."""

import io
import os
import tarfile
import uuid

import pytest

import images
from conftest import PROBE, probe_image, unique, wait_for

SECRET = "only the host may read this"


@pytest.fixture
def host_dir(tmp_path_factory):
    """A directory of the host's with a file in it, as a database might lie there."""
    path = tmp_path_factory.mktemp("hosts")
    (path / "secret").write_text(SECRET)
    os.chmod(path / "secret", 0o644)
    return path


def layer(*entries):
    """A layer of `(name, type, link or data)`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, kind, what in entries:
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, 0o755
            data = what if isinstance(what, bytes) else b""
            info.size, info.linkname = len(data), "" if data else what or ""
            archive.addfile(info, io.BytesIO(data) if data else None)
    return buffer.getvalue()


def load(region, tmp_path, *layers, **config):
    name = unique("trap")
    path = probe_image(tmp_path / f"{name}.tar", f"{name}:1", layers, **config)
    done = region.run("image", "load", str(path), check=False)
    return done, f"127.0.0.1:{region.port}/{name}:1"


def everything_of(cluster, image, mount, fargate=True, **more):
    """What a container finds at `mount`, a volume that is filled from its image."""
    volume = {"name": "v"} if fargate else {"name": "v", "dockerVolumeConfiguration": {"scope": "task"}}
    container = cluster.container("sh", "-c", f"cat {mount}/* {mount}/*/* 2>/dev/null; ls -R {mount} | head -50; echo seen",
                                  mountPoints=[{"sourceVolume": "v", "containerPath": mount}], **more)
    container["image"] = image
    where = None if fargate else "default"
    arn, = cluster.run(cluster.define(container, fargate=fargate, volumes=[volume]), fargate=fargate, cluster=where)
    task = cluster.until(arn, "STOPPED", 60, where)
    return "\n".join(cluster.lines(arn)), task


LINKS = {
    "absolute": lambda host: [("x", tarfile.SYMTYPE, "/")],
    "relative": lambda host: [("x", tarfile.SYMTYPE, "../../../../../../../../../..")],
    "proc": lambda host: [("x", tarfile.SYMTYPE, "/proc/1/root")],
    "two steps": lambda host: [("y", tarfile.SYMTYPE, "/"), ("x", tarfile.SYMTYPE, "y")],
    "in between": lambda host: [("x", tarfile.SYMTYPE, "/proc/self/root")],
}


@pytest.mark.parametrize("fargate", [True, False], ids=["fargate", "ec2"])
@pytest.mark.parametrize("kind", LINKS)
def test_a_link_of_an_image_does_not_lead_a_volumes_filling_to_the_host(region, cluster, tmp_path, host_dir, kind, fargate):
    done, image = load(region, tmp_path, layer(*LINKS[kind](host_dir)))
    if done.returncode != 0:
        return  # refused at once, which is as good
    text, task = everything_of(cluster, image, f"/x{host_dir}", fargate)
    assert SECRET not in text, (text, task)


@pytest.mark.parametrize("fargate", [True, False], ids=["fargate", "ec2"])
def test_a_volume_of_the_image_behind_a_link_shows_nothing_of_the_host(region, cluster, tmp_path, host_dir, fargate):
    mount = f"/x{host_dir}"
    done, image = load(region, tmp_path, layer(("x", tarfile.SYMTYPE, "/")), Volumes={mount: {}})
    if done.returncode != 0:
        return
    container = cluster.container("sh", "-c", f"cat {mount}/secret; cat {host_dir}/secret; echo seen")
    container["image"] = image
    where = None if fargate else "default"
    arn, = cluster.run(cluster.define(container, fargate=fargate), fargate=fargate, cluster=where)
    task = cluster.until(arn, "STOPPED", 60, where)
    assert SECRET not in "\n".join(cluster.lines(arn)), task


@pytest.mark.parametrize("file", ["etc/passwd", "etc/group", "etc/hosts", "etc/resolv.conf", "etc/hostname"])
def test_a_file_that_the_agent_looks_into_or_lays_over_is_not_the_hosts(region, cluster, tmp_path, host_dir, file):
    """Users and groups are looked up, and names are written, in the container's own tree."""
    target = host_dir / "target"
    target.write_text("root:x:0:0::/:/bin/sh\nhostuser:x:4242:4242::/:/bin/sh\n")
    before = target.read_bytes()
    done, image = load(region, tmp_path, layer((file, tarfile.SYMTYPE, str(target))))
    if done.returncode != 0:
        return
    container = cluster.container("sh", "-c", "id; cat /etc/hosts /etc/resolv.conf", user="hostuser")
    container["image"] = image
    arn, = cluster.run(cluster.define(container))
    task = cluster.until(arn, "STOPPED")
    lines = "\n".join(cluster.lines(arn)) if task["stopCode"] != "TaskFailedToStart" else ""
    assert "4242" not in lines, lines
    assert target.read_bytes() == before


def test_a_working_directory_is_made_in_the_container_alone(region, cluster, tmp_path, host_dir):
    name = uuid.uuid4().hex
    done, image = load(region, tmp_path, layer(("x", tarfile.SYMTYPE, str(host_dir))), WorkingDir=f"/x/{name}")
    if done.returncode != 0:
        return
    container = cluster.container("sh", "-c", "pwd; touch made")
    container["image"] = image
    arn, = cluster.run(cluster.define(container))
    cluster.until(arn, "STOPPED")
    assert sorted(os.listdir(host_dir)) == ["secret"]


def test_a_mount_point_behind_a_link_is_made_in_the_container_alone(region, cluster, tmp_path, host_dir):
    done, image = load(region, tmp_path, layer(("x", tarfile.SYMTYPE, str(host_dir))))
    if done.returncode != 0:
        return
    everything_of(cluster, image, f"/x/{uuid.uuid4().hex}/deep")
    assert sorted(os.listdir(host_dir)) == ["secret"]


def test_directories_that_are_swapped_while_a_volume_is_filled_change_nothing_of_the_host(region, cluster, tmp_path, host_dir):
    """One container swaps a directory of a shared volume for a link while another's image fills it."""
    tree = [("data/a", tarfile.DIRTYPE, None)] + [(f"data/a/f{n}", tarfile.REGTYPE, b"trap") for n in range(3000)]
    done, image = load(region, tmp_path, layer(*tree))
    assert done.returncode == 0, done.stderr
    swapper = cluster.container("probe", "swap", "/v", "4", str(host_dir), name="swapper", essential=False,
                                mountPoints=[{"sourceVolume": "v", "containerPath": "/v"}])
    filler = cluster.container("true", name="filler", mountPoints=[{"sourceVolume": "v", "containerPath": "/data"}],
                               dependsOn=[{"containerName": "swapper", "condition": "START"}])
    filler["image"] = image
    definition = cluster.define(swapper, filler, volumes=[{"name": "v"}])
    tasks = [arn for _ in range(4) for arn in cluster.run(definition)]
    for arn in tasks:
        cluster.until(arn, "STOPPED", 90)
    assert sorted(os.listdir(host_dir)) == ["secret"]
    assert (host_dir / "secret").read_text() == SECRET


HOSTILE_LAYERS = {
    "absolute name": [("/../../../../../../tmp/{id}", tarfile.REGTYPE, b"x")],
    "dots": [("a/../../../../../../../../tmp/{id}", tarfile.REGTYPE, b"x")],
    "through a link": [("out", tarfile.SYMTYPE, "/tmp"), ("out/{id}", tarfile.REGTYPE, b"x")],
    "through a relative link": [("out", tarfile.SYMTYPE, "../../../../../../../../tmp"), ("out/{id}", tarfile.REGTYPE, b"x")],
    "hard link to the host": [("passwd", tarfile.LNKTYPE, "/etc/passwd"), ("passwd", tarfile.REGTYPE, b"x")],
    "hard link through a link": [("etc2", tarfile.SYMTYPE, "/etc"), ("mine", tarfile.LNKTYPE, "etc2/hostname")],
    "whiteout through a link": [("out", tarfile.SYMTYPE, "/tmp"), ("out/.wh.{id}-kept", tarfile.REGTYPE, b"")],
    "opaque through a link": [("out", tarfile.SYMTYPE, "/tmp/{id}-dir"), ("out/.wh..wh..opq", tarfile.REGTYPE, b"")],
}


@pytest.mark.parametrize("kind", HOSTILE_LAYERS)
def test_unpacking_a_layer_touches_its_own_tree_alone(region, cluster, tmp_path, kind):
    mark = uuid.uuid4().hex
    kept, folder = f"/tmp/{mark}-kept", f"/tmp/{mark}-dir"
    os.mkdir(folder)
    for path in [kept, folder + "/file"]:
        with open(path, "w") as file:
            file.write("kept")
    passwd = open("/etc/passwd").read()
    entries = [(name.format(id=mark), type_, what.format(id=mark) if isinstance(what, str) else what)
               for name, type_, what in HOSTILE_LAYERS[kind]]
    try:
        done, image = load(region, tmp_path, layer(*entries))
        if done.returncode == 0:
            container = cluster.container("cat", "/passwd", "/mine")
            container["image"] = image
            arn, = cluster.run(cluster.define(container))
            task = cluster.until(arn, "STOPPED")
            if task["stopCode"] != "TaskFailedToStart":
                assert "daemon:" not in "\n".join(cluster.lines(arn))
        assert not os.path.exists(f"/tmp/{mark}")
        assert open(kept).read() == "kept" and open(folder + "/file").read() == "kept"
        assert open("/etc/passwd").read() == passwd
    finally:
        for path in [kept, folder + "/file"]:
            if os.path.exists(path):
                os.remove(path)
        os.rmdir(folder)


def test_what_lies_in_the_data_directory_is_its_owners_alone(region):
    """Everything in it may hold somebody's secrets: nobody else may read, list or enter it."""
    open_ones = []
    for folder, _, files in os.walk(region.data_dir):
        # What images and containers made has the modes that they gave it, behind directories that are closed.
        if "/agent/images/" in folder + "/" or "/agent/tasks/" in folder + "/" or "/agent/volumes/" in folder + "/":
            continue
        for path in [folder, *(os.path.join(folder, file) for file in files)]:
            try:
                mode = os.lstat(path).st_mode
            except FileNotFoundError:
                continue
            if mode & 0o077 and (mode & 0o170000) != 0o120000:
                open_ones.append(f"{mode & 0o7777:o} {path}")
    assert open_ones == []
