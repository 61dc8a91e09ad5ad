"""Real containers: podman and runc with storage, configuration, cgroups and processes of their own.

    with Engine() as engine:               # its network is that of the tests: for building images
        engine.podman("build", ...)

    with Node() as node:                   # a network namespace of its own, as a node of a cluster has it
        node.add_image("busybox:1", {"/bin/busybox": "/usr/bin/busybox"})
        pod = node.play(documents)         # `podman kube play`
        pod.wait("app"); pod.logs("sluice")

Podman stands in a mount, a PID and a cgroup namespace made for it. What it mounts and starts ends with the first
process there, whatever state podman was in; then a folder and one cgroup are left, and are removed.
"""

import contextlib
import itertools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time

import pytest

import pod as pods

PROGRAMS = ("podman", "runc", "conmon", "catatonit", "busybox", "nsenter", "unshare")
BRIDGE = "cni0"  # what a node's bridge is called in a cluster, and by what sluice knows a node
NETWORK = "pods"
SUBNETS = ("10.88.0.0/24", "fd00:88::/64")
# What a machine may give is not more than what it has itself; podman's own wish is far above that.
ULIMITS = ["nofile=1024:1024", "nproc=1024:1024"]

# $1 is the name of the cgroup, then come the places where cgroups are mounted.
MAKE_NAMESPACES = r"""
group=$1; init=$2; shift 2
for place; do
  mkdir "$place/$group"
  for file in cpuset.cpus cpuset.mems; do
    [ ! -e "$place/$group/$file" ] || cat "$place/$file" >"$place/$group/$file"
  done
  echo $$ >"$place/$group/cgroup.procs"
done
exec unshare --cgroup --mount --pid --fork --kill-child --propagation private --mount-proc sh -ec "$init" sh "$group" "$@"
"""
INIT = r"""
group=$1; shift
for place; do mount --bind "$place/$group" "$place"; done
mkdir -p /etc/containers /var/lib/containers
mount --bind "$CONFIGURATION" /etc/containers
for place in /run /var/lib/containers; do mount -t tmpfs tmpfs "$place"; done
echo ready
exec catatonit -P
"""

_numbers = itertools.count(1)


def need_containers():
    """Skips the test where containers cannot be had, and says why."""
    need(PROGRAMS, "containers")


def need(programs, purpose):
    """Skips the test without root or one of the programs, and says why."""
    if os.geteuid() != 0:
        pytest.skip(f"needs root, for {purpose}")
    missing = [program for program in programs if not shutil.which(program)]
    if missing:
        pytest.skip(f"needs the programs {', '.join(missing)}")


def cgroup_mounts():
    lines = (line.split() for line in pathlib.Path("/proc/mounts").read_text().splitlines())
    return sorted({place for _, place, kind, *_ in lines if kind in ("cgroup", "cgroup2")})


def libraries_of(program):
    """The files that a program needs to start, the loader included; none for a static one."""
    told = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return [word for word in told.split() if word.startswith("/")]


class Engine:
    """Podman, with nothing shared with the machine's own. Use as a context manager."""

    def __init__(self, netns=None):
        self.name = f"sluice-{os.getpid()}-{next(_numbers)}-podman"
        self._netns = netns
        self._stack = contextlib.ExitStack()
        try:
            self.scratch = pathlib.Path(tempfile.mkdtemp(prefix=f"{self.name}-"))
            self._stack.callback(shutil.rmtree, self.scratch)
            self._configure()
            self._start()
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._stack.close()

    # ------------------------------------------------------------------------------------ configuration

    def _configure(self):
        for folder in ("etc", "networks", "tmp", "storage", "state"):
            (self.scratch / folder).mkdir()
        self._write("etc/policy.json", {"default": [{"type": "insecureAcceptAnything"}]})
        # Nothing is ever fetched: a name that is not here is an error.
        (self.scratch / "etc/registries.conf").write_text("unqualified-search-registries = []\n")
        (self.scratch / "etc/storage.conf").write_text(
            f'[storage]\ndriver = "{self._driver()}"\n'
            f'graphroot = "{self.scratch}/storage"\nrunroot = "{self.scratch}/state"\n'
        )
        (self.scratch / "etc/containers.conf").write_text(
            # crun refuses a machine whose cgroups are of both versions; without systemd there is but cgroupfs.
            f'[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
            f"[containers]\nlog_driver = \"k8s-file\"\ndefault_ulimits = {json.dumps(ULIMITS)}\n"
            f'[network]\nnetwork_backend = "cni"\nnetwork_config_dir = "{self.scratch}/networks"\n'
        )
        self._write("networks/pods.conflist", {"cniVersion": "0.4.0", "name": NETWORK, "plugins": [self._bridge()]})

    def _driver(self):
        kind = subprocess.run(["stat", "-f", "-c", "%T", self.scratch], capture_output=True, text=True, check=True)
        return "vfs" if kind.stdout.strip() == "overlayfs" else "overlay"

    def _bridge(self):
        """Addresses and routes only; nothing here writes rules of its own."""
        ranges = [[{"subnet": subnet}] for subnet in SUBNETS]
        routes = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
        ipam = {"type": "host-local", "ranges": ranges, "routes": routes, "dataDir": f"{self.scratch}/state/addresses"}
        return {"type": "bridge", "bridge": BRIDGE, "isGateway": True, "ipMasq": False, "ipam": ipam}

    def _write(self, name, value):
        (self.scratch / name).write_text(json.dumps(value))

    # ---------------------------------------------------------------------------------------- processes

    def _start(self):
        self._stack.callback(self._remove_cgroups)
        argv = ["sh", "-ec", MAKE_NAMESPACES, "sh", self.name, INIT, *cgroup_mounts()]
        if self._netns:
            argv = ["nsenter", f"--net=/run/netns/{self._netns}", *argv]
        self._keeper = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=(self.scratch / "messages").open("w"),
            text=True,
            start_new_session=True,
            preexec_fn=pods.die_with_parent,
            env={**os.environ, "CONFIGURATION": str(self.scratch / "etc")},
        )
        self._stack.callback(self._end)
        if self._keeper.stdout.readline() != "ready\n":
            raise RuntimeError("no namespaces for podman: " + (self.scratch / "messages").read_text())
        children = pathlib.Path(f"/proc/{self._keeper.pid}/task/{self._keeper.pid}/children")
        self._init = children.read_text().split()[0]

    def _end(self):
        """When the first process of a PID namespace has ended, all others have."""
        self._keeper.stdout.close()
        init = getattr(self, "_init", None)
        os.kill(int(init or self._keeper.pid), signal.SIGKILL)
        self._keeper.wait()

    def _remove_cgroups(self):
        for place in cgroup_mounts():
            for folder, *_ in os.walk(f"{place}/{self.name}", topdown=False):
                # Ended processes leave their cgroups a moment later.
                pods.wait_until(lambda folder=folder: _removed(folder), f"{folder} to become empty", timeout=30)

    def run(self, *argv, check=True, timeout=120, **options):
        """Runs a program where podman runs and returns what it said."""
        inside = ["nsenter", "-t", self._init, "-m", "-p", "-C", "-n", "--", *map(str, argv)]
        env = {"PATH": os.environ["PATH"], "HOME": "/root", "TMPDIR": str(self.scratch / "tmp")}
        options = {"stdin": subprocess.DEVNULL, "text": True, "env": env, **options}
        done = subprocess.run(inside, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout, check=False, **options)
        done.args = argv
        return pods.succeeded(done) if check else done

    def podman(self, *arguments, **options):
        return self.run("podman", *arguments, **options)

    # ------------------------------------------------------------------------------------------- images

    def add_image(self, name, files, *configuration):
        """An image of these files, a dictionary of what lies where, each with the libraries it needs to start.

        `configuration` is in a Dockerfile's words, such as `ENTRYPOINT ["/sluice"]`.
        """
        changes = [word for line in configuration for word in ("--change", line)]
        with tempfile.TemporaryFile(dir=self.scratch) as archive:
            _pack(files, archive)
            archive.seek(0)
            self.podman("import", "--quiet", *changes, "-", name, stdin=archive)

    def load_image(self, archive, name):
        """The one image of an OCI archive, under this name."""
        loaded = self.podman("load", "--quiet", "--input", archive).stdout
        self.podman("tag", loaded.split("Loaded image:")[1].strip(), name)


def _removed(folder):
    with contextlib.suppress(OSError):
        os.rmdir(folder)
    return not os.path.exists(folder)


def _pack(files, archive):
    """Writes the files and their libraries, each once, as root's."""
    wanted = dict(files)
    for source in files.values():
        wanted.update((library, library) for library in libraries_of(source))
    with tarfile.open(fileobj=archive, mode="w", dereference=True) as tar:
        for inside, source in wanted.items():
            entry = tar.gettarinfo(source, inside)
            entry.uid = entry.gid = 0
            with open(source, "rb") as content:
                tar.addfile(entry, content)


# ------------------------------------------------------------------------------------------------- nodes


class Node(Engine):
    """An Engine in a network namespace of its own, which answers on any address of pods.ANY_ADDRESS."""

    def __init__(self):
        self.netns = f"sluice-{os.getpid()}-{next(_numbers)}-node"
        self._namespace = contextlib.ExitStack()
        self._namespace.callback(subprocess.run, ["ip", "netns", "delete", self.netns], stderr=subprocess.DEVNULL, check=False)
        try:
            subprocess.run(["ip", "netns", "add", self.netns], check=True)
            # The bridge is there before the first pod, as on a node.
            commands = ["link set lo up", f"link add {BRIDGE} type bridge", *(f"route add local {cidr} dev lo" for cidr in pods.ANY_ADDRESS)]
            pods.succeeded(pods.run(["ip", "-batch", "-"], self.netns, stdin="\n".join(commands) + "\n"))
            super().__init__(self.netns)
        except BaseException:
            self._namespace.close()
            raise
        self._serve_outside()

    def close(self):
        super().close()
        self._namespace.close()

    def _serve_outside(self):
        """A web server on port 80 of every address out there."""
        (self.scratch / "www").mkdir()
        (self.scratch / "www/index.html").write_text("the world outside\n")
        argv = ["busybox", "httpd", "-f", "-p", "80", "-h", str(self.scratch / "www")]
        self.outside_server = pods.spawn(argv, self.netns, stdin=subprocess.DEVNULL)
        self._stack.callback(self.outside_server.wait)
        self._stack.callback(self.outside_server.kill)

    def fetch(self, host, port):
        """What a caller from outside the pods gets at that address."""
        return pods.run(["busybox", "wget", "-q", "-O", "-", f"http://{pods.address(host, port)}/"], self.netns)

    def play(self, documents, *options, check=True):
        """`podman kube play` of these objects of Kubernetes, a list of dictionaries; JSON is YAML, too."""
        text = "\n---\n".join(map(json.dumps, documents))
        # As in Kubernetes, an init container runs whenever the pod starts; podman's own wish is to run it once and remove it.
        options = ["--annotation=io.podman.annotations.init.container.type=always", *options]
        if not any(pod_spec(document).get("hostNetwork") for document in documents):
            options.append(f"--network={NETWORK}")
        done = self.podman("kube", "play", *options, "-", input=text, stdin=None, check=check)
        return RunningPod(self, next(one["metadata"]["name"] for one in documents if one["kind"] == "Pod"), done)

    def remove_pods(self):
        self.podman("pod", "rm", "--force", "--all", "--time=0")
        self.podman("volume", "prune", "--force")


def pod_spec(document):
    """The part of a Pod or of something that makes pods which says what is in the pod; empty where there is none."""
    spec = document.get("spec", {})
    return spec.get("template", {}).get("spec", {}) if "template" in spec else spec


class RunningPod:
    """A pod that podman has played. Containers go by the names they have in the manifest."""

    def __init__(self, node, name, played):
        self.node, self.name, self.played = node, name, played

    def container(self, name):
        return f"{self.name}-{name}"

    def state(self, name):
        return json.loads(self.node.podman("inspect", self.container(name)).stdout)[0]

    def logs(self, name):
        """Everything the container wrote, of all its runs."""
        done = self.node.podman("logs", self.container(name))
        return done.stdout + done.stderr

    def start(self, name, check=True):
        """Starts a container and waits for its end; returns what it wrote in this run."""
        return self.node.podman("start", "--attach", self.container(name), check=check)

    def execute(self, name, *argv):
        return self.node.podman("exec", self.container(name), *argv)

    def pid(self):
        """Of the process that holds the pod's namespaces, as seen by Node.run."""
        pod = json.loads(self.node.podman("pod", "inspect", self.name).stdout)
        return json.loads(self.node.podman("inspect", pod["InfraContainerID"]).stdout)[0]["State"]["Pid"]

    def enter(self, *argv, check=True):
        """Runs a program of the node in the pod's network namespace."""
        return self.node.run("nsenter", f"--net=/proc/{self.pid()}/ns/net", *argv, check=check)

    def address(self, family):
        shown = json.loads(self.enter("ip", "-j", "address", "show", "dev", "eth0", "scope", "global").stdout)
        wanted = {"ipv4": "inet", "ipv6": "inet6"}[family.name]
        return next(one["local"] for one in shown[0]["addr_info"] if one["family"] == wanted)

    def runtime_configuration(self, name):
        """What the container runtime was told: the OCI bundle's config.json."""
        return json.loads(pathlib.Path(self.state(name)["OCIConfigPath"]).read_text())

    def wait_for_log(self, name, text, timeout=60):
        deadline = time.monotonic() + timeout
        while text not in (log := self.logs(name)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"no {text!r} in the log of {name}, but:\n{log}")
            time.sleep(0.1)
        return log
