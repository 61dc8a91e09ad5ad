"""The container image that the Dockerfile makes: what is in it, that it is the same whoever builds it, and a pod that uses it.

The image is built as `./dev image` builds it, which is a matter of seconds when the source is the same. With
SLUICE_THOROUGH=1 it is also built anew from the first package on, without what the compiler remembers, and for arm64.
"""

import datetime
import gzip
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import tarfile

import pytest

import containers
import pod as pods
import test_pod as example
from pod import IPV4

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = ("podman", "mmdebstrap", "unshare", "git", "jq")
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
THOROUGH = bool(os.environ.get("SLUICE_THOROUGH"))
IMAGE_LIMIT, PROGRAM_LIMIT = 4_000_000, 2_500_000


def git(*arguments):
    return subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True, check=True).stdout.strip()


class Archive:
    """An image in an OCI archive, read without any tool for containers."""

    def __init__(self, path):
        self.path = path
        with tarfile.open(path) as tar:
            self._blobs = {entry.name: tar.extractfile(entry).read() for entry in tar if entry.isfile()}
        (described,) = json.loads(self._blobs["index.json"])["manifests"]
        self.digest = described["digest"]
        self.manifest = self._json(self.digest)
        self.configuration = self._json(self.manifest["config"]["digest"])
        self.size = self.manifest["config"]["size"] + sum(layer["size"] for layer in self.manifest["layers"])

    def _blob(self, digest):
        algorithm, _, name = digest.partition(":")
        blob = self._blobs[f"blobs/{algorithm}/{name}"]
        assert hashlib.new(algorithm, blob).hexdigest() == name
        return blob

    def _json(self, digest):
        return json.loads(self._blob(digest))

    def files(self):
        """(name, type, mode, user, group, content) of whatever the layers hold."""
        for layer in self.manifest["layers"]:
            blob = self._blob(layer["digest"])
            content = gzip.decompress(blob) if layer["mediaType"].endswith("+gzip") else blob
            with tarfile.open(fileobj=io.BytesIO(content)) as tar:
                for entry in tar:
                    data = tar.extractfile(entry).read() if entry.isfile() else None
                    yield entry.name.lstrip("/"), entry.type, entry.mode & 0o7777, entry.uid, entry.gid, data

    def program(self):
        ((*_, content),) = self.files()
        return content


def run(argv, **options):
    options |= {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "preexec_fn": pods.die_with_parent}
    done = subprocess.run(argv, timeout=1200, check=False, **options)
    return pods.succeeded(done)


def build(file, architecture=ARCHITECTURE, **variables):
    run([ROOT / "cmake" / "image.sh", architecture, file], env={**os.environ, **variables})
    return Archive(file)


@pytest.fixture(scope="module")
def archive():
    containers.need(PROGRAMS, "the file systems of an image")
    if not (ROOT / ".git").exists():
        pytest.skip("needs the repository: an image names its commit")
    return build(ROOT / "build" / "image" / f"sluice-{ARCHITECTURE}.tar")


@pytest.fixture(scope="module")
def other_folder(tmp_path_factory):
    """The source once more, in a folder of another name and without the repository."""
    folder = tmp_path_factory.mktemp("somewhere-else") / "sluice"
    for name in git("ls-files", "--cached", "--others", "--exclude-standard").splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for libraries in (ROOT / "build").glob("static*"):
        shutil.copytree(libraries, folder / "build" / libraries.name)
    return folder


def native_release(folder, architecture):
    """What `./dev release` makes there."""
    forget = {"CCACHE_DISABLE": "1"} if THOROUGH else {}
    commit = git("rev-parse", "--short=12", "HEAD")
    run([folder / "dev", "release", architecture], env={**os.environ, **forget, "SLUICE_COMMIT": commit})
    preset = "release" if architecture == ARCHITECTURE else architecture
    return folder / "build" / preset / "sluice"


@pytest.fixture(scope="module")
def native(other_folder):
    return native_release(other_folder, ARCHITECTURE)


def test_one_program_and_nothing_else(archive):
    (file,) = archive.files()
    assert file[:-1] == ("sluice", tarfile.REGTYPE, 0o755, 0, 0)


def test_it_is_small(archive):
    assert archive.size <= IMAGE_LIMIT
    assert len(archive.program()) <= PROGRAM_LIMIT
    # Unpacked on a node it is the program alone.
    assert len(archive.program()) <= IMAGE_LIMIT


def test_what_it_says_of_itself(archive):
    version = re.search(r"^project\(sluice VERSION ([\d.]+)", (ROOT / "CMakeLists.txt").read_text(), re.MULTILINE).group(1)
    committed = datetime.datetime.fromtimestamp(int(git("log", "-1", "--format=%ct")), datetime.timezone.utc)
    said = archive.configuration
    assert (said["os"], said["architecture"]) == ("linux", ARCHITECTURE)
    assert {key: value for key, value in said["config"].items() if key not in ("Env", "Labels")} == {"Entrypoint": ["/sluice"]}
    assert said["config"]["Labels"] == {
        "org.opencontainers.image.title": "sluice",
        "org.opencontainers.image.description": "Captures a pod's traffic for its sidecar proxy",
        "org.opencontainers.image.version": version,
        "org.opencontainers.image.revision": git("rev-parse", "HEAD"),
        "org.opencontainers.image.created": committed.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    assert said["created"] == committed.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_nothing_of_this_machine_is_in_it(archive):
    for text in (archive.program(), json.dumps([archive.manifest, archive.configuration]).encode()):
        for trace in (str(ROOT), "/src/", "/root/"):
            assert trace.encode() not in text


def test_the_program_is_to_the_byte_what_another_folder_makes(archive, native):
    # Not compared with ==, whose failure would print both.
    assert hashlib.sha256(archive.program()).digest() == hashlib.sha256(native.read_bytes()).digest()


def test_built_again_it_is_the_same(archive):
    """What the builder left is used again; the image itself is made again."""
    assert build(archive.path.with_name("again.tar")).digest == archive.digest


if THOROUGH:

    def test_built_anew_from_the_first_package_on_it_is_the_same(archive, tmp_path):
        assert build(tmp_path / "anew.tar", SLUICE_IMAGE_CCACHE="off").digest == archive.digest

    def test_the_image_for_arm64(archive, other_folder):
        image = build(archive.path.with_name("sluice-arm64.tar"), "arm64")
        assert image.configuration["architecture"] == "arm64"
        (file,) = image.files()
        assert file[:-1] == ("sluice", tarfile.REGTYPE, 0o755, 0, 0)
        assert image.size <= IMAGE_LIMIT and len(image.program()) <= PROGRAM_LIMIT
        native = native_release(other_folder, "arm64")
        assert hashlib.sha256(image.program()).digest() == hashlib.sha256(native.read_bytes()).digest()


# ------------------------------------------------------------------------------------------------------ in a pod


@pytest.fixture(scope="module")
def node(archive, sluice):
    with example.node_with_images(lambda node: node.load_image(archive.path, example.SLUICE_IMAGE)) as node:
        yield node


def test_a_pod_runs_the_image(node):
    pod = node.play(example.documents_of("pod.yaml"), example.SHARED)
    example.wait_until_ready(pod)
    assert "rules created" in pod.logs("sluice")
    where = pods.address(IPV4.outside, 80)
    assert example.ask_outside(pod, "app", where) == "the world outside\n"
    example.wait_until_seen(pod, ("outbound", where))
    node.remove_pods()


def test_other_pods_run_an_image_of_the_same_shape(node, archive, native, tmp_path):
    """The one that test_pod.py makes, without building one."""
    example.add_sluice_image(node, "shape:1", str(native))
    node.podman("save", "--quiet", "--format=oci-archive", f"--output={node.scratch}/shape.tar", "shape:1")
    shape = Archive(node.scratch / "shape.tar")
    told = {**archive.configuration["config"]}
    del told["Labels"]
    assert {**shape.configuration["config"], "Env": told["Env"]} == told
    assert [file[:-1] for file in shape.files()] == [file[:-1] for file in archive.files()]
    assert shape.program() == archive.program()
