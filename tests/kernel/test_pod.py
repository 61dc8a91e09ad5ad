"""A real pod: podman plays the examples in docs/, with a real Envoy, and what they promise is looked at from outside.

Podman is no kubelet. Where it does not do what a kubelet does, the test does it, and says so: see `playable` and
`start_as_a_kubelet`.
"""

import contextlib
import copy
import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest
import yaml

import containers
import pod as pods
from containers import pod_spec
from pod import FAMILIES, IPV4, address

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"
FILES = sorted(EXAMPLES.glob("*.yaml"))
SHARED = f"--configmap={EXAMPLES / 'shared.yaml'}"
SLUICE_IMAGE = "registry.example/sluice:0.1.0"
BUSYBOX_IMAGE = "docker.io/library/busybox:1.35"
ENVOY_IMAGE = "docker.io/envoyproxy/envoy:distroless-v1.40.0"
APPLETS = ("sh", "httpd", "wget")
HEALTH, PORT, PROBED = 15021, 8080, 8081
SETTINGS_SERVER = "203.0.113.10:80"  # what the init containers of the examples ask
LOG_LINE = re.compile(r"^(outbound|inbound) (\S+) \d+ bytes$", re.MULTILINE)


def documents_of(name):
    return list(yaml.safe_load_all((EXAMPLES / name).read_text()))


def workload(documents):
    """The pod's spec in these documents."""
    return next(spec for spec in map(pod_spec, documents) if spec)


def playable(name):
    """An example as podman 4.3 can play it, which differs from a kubelet.

    It restarts init containers that have finished, unless nothing is restarted; its health checks need systemd; and
    annotations do not reach the pod of a Deployment, so here is that pod itself.
    """
    documents = documents_of(name)
    for document in documents:
        if spec := pod_spec(document):
            document.update(apiVersion="v1", kind="Pod", spec={**spec, "restartPolicy": "Never"})
            for container in spec["containers"]:
                container.pop("livenessProbe", None)
    return documents


def with_arguments(documents, *arguments):
    sluice_container(workload(documents))["args"] += arguments
    return documents


def sluice_container(spec):
    return next(one for one in spec["initContainers"] if one["name"] == "sluice")


def program_for_the_image(program):
    """The static program, where it is newer than all it is made of; else the one under test."""
    static = ROOT / "build" / "release" / "sluice"
    sources = [file for folder in ("rules", "netfilter", "cli", "cmake") for file in (ROOT / folder).rglob("*")]
    if static.exists() and static.stat().st_mtime >= max(file.stat().st_mtime for file in sources):
        return str(static)
    return program


# ------------------------------------------------------------------------------------------------ the node


def machine_rules():
    """What the machine's own namespace holds; tests never change it."""
    return subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout


def add_sluice_image(node, name, program):
    """An image as the Dockerfile makes one; test_image.py compares the two."""
    node.add_image(name, {"/sluice": program}, 'ENTRYPOINT ["/sluice"]')


@contextlib.contextmanager
def node_with_images(add_sluice):
    """A node with the images that the examples name; the first comes from what is given."""
    containers.need_containers()
    envoy = pods.envoy_binary()
    if not envoy or not os.access(envoy, os.X_OK):
        pytest.skip(f"there is no Envoy at {envoy or 'build/venv'}; install it or set ENVOY_BIN")
    before = machine_rules()
    with containers.Node() as node:
        add_sluice(node)
        node.add_image(BUSYBOX_IMAGE, {f"/bin/{name}": shutil.which("busybox") for name in APPLETS}, "ENV PATH=/bin")
        node.add_image(ENVOY_IMAGE, {"/envoy": envoy}, 'ENTRYPOINT ["/envoy"]')
        yield node
    assert machine_rules() == before


@pytest.fixture(scope="module")
def node(sluice):
    with node_with_images(lambda node: add_sluice_image(node, SLUICE_IMAGE, program_for_the_image(sluice))) as node:
        yield node


@pytest.fixture
def play(node):
    """Plays for one test, alone: the pod of a fixture for many tests goes first."""
    node.remove_pods()
    yield lambda documents, *options, **how: node.play(documents, SHARED, *options, **how)
    node.remove_pods()


def wait_until_ready(pod):
    """As the readiness probe in the examples would."""
    here = pod.address(IPV4)
    pods.wait_until(lambda: pod.node.fetch(here, HEALTH).stdout == "ready\n", "Envoy to be ready", timeout=60)
    pods.wait_until(lambda: pod.node.fetch(here, PORT).stdout == "the shop\n", "the application to answer", timeout=60)


def ask_outside(pod, container, where):
    """What a process of that container gets from a server outside."""
    return pod.execute(container, "wget", "-q", "-O", "-", f"http://{where}/").stdout


def seen_by_envoy(pod):
    """(direction, original destination) of every connection that Envoy took and that is over."""
    return LOG_LINE.findall(pod.logs("envoy"))


def wait_until_seen(pod, *expected):
    """Envoy writes a moment after the connection."""
    pods.wait_until(lambda: set(expected) <= set(seen_by_envoy(pod)), f"{expected} in Envoy's log", timeout=60)


# -------------------------------------------------------------------------- pod.yaml, on both backends


@pytest.fixture(scope="module", params=["nftables", "iptables"])
def shop(node, request):
    pod = node.play(with_arguments(documents_of("pod.yaml"), f"--backend={request.param}"), SHARED)
    pod.backend = request.param
    wait_until_ready(pod)
    yield pod
    node.remove_pods()


def test_the_init_container_gets_what_the_example_gives_it(shop):
    told = shop.runtime_configuration("sluice")
    sets = told["process"]["capabilities"]
    assert {name for held in sets.values() for name in held} == {"CAP_NET_ADMIN"}
    assert told["process"]["noNewPrivileges"] is True
    assert told["root"]["readonly"] is True
    # The profile of the runtime allows by name; everything else is an error.
    assert told["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_ERRNO"


def test_it_says_in_its_log_what_it_did(shop):
    assert re.search(r"rules created: outbound TCP to port 15001, inbound TCP to port 15006", shop.logs("sluice"))


def test_outbound_goes_through_envoy(shop, family):
    where = address(family.outside, 80)
    assert ask_outside(shop, "app", where) == "the world outside\n"
    wait_until_seen(shop, ("outbound", where))
    # Once: what Envoy sends itself is not captured.
    assert seen_by_envoy(shop).count(("outbound", where)) == 1


def test_inbound_goes_through_envoy(shop, family):
    where = address(shop.address(family), PORT)
    before = seen_by_envoy(shop).count(("inbound", where))
    assert shop.node.fetch(shop.address(family), PORT).stdout == "the shop\n"
    pods.wait_until(lambda: seen_by_envoy(shop).count(("inbound", where)) > before, "a line in Envoy's log", timeout=60)


def test_the_health_port_is_not_captured(shop):
    assert shop.node.fetch(shop.address(IPV4), HEALTH).stdout == "ready\n"
    wait_until_ready(shop)  # a later connection, whose line comes after the one that must not be there
    assert not [line for line in seen_by_envoy(shop) if line[1].endswith(f":{HEALTH}")]


def test_the_rules_are_seen_from_the_node(shop):
    if shop.backend == "nftables":
        assert "redirect to :15001" in shop.enter("nft", "list", "table", "inet", "sluice").stdout
        assert "SLUICE" not in shop.enter("iptables-save").stdout
    else:
        for save in ("iptables-save", "ip6tables-save"):
            assert "-A SLUICE_REDIRECT -p tcp -j REDIRECT --to-ports 15001" in shop.enter(save, "-t", "nat").stdout
        assert "inet sluice" not in shop.enter("nft", "list", "tables").stdout


def arguments(shop):
    return sluice_container(workload(documents_of("pod.yaml")))["args"][1:] + [f"--backend={shop.backend}"]


def test_the_node_can_verify_the_pod(shop):
    verify = [pods.sluice_binary(), "verify", "--netns", str(shop.pid()), *arguments(shop)]
    assert "no drift" in shop.node.run(*verify).stdout
    other = shop.node.run(*verify, "--outbound-ports=1234", "--outbound-cidrs=", check=False)
    assert other.returncode == 3


def listing(shop):
    """All rules with their handles, which are new when a rule is written anew; and without counters."""
    return shop.enter("nft", "-s", "-a", "list", "ruleset").stdout


def test_another_run_in_the_living_pod_changes_nothing(shop):
    before = listing(shop)
    assert "rules unchanged" in shop.start("sluice").stdout
    assert listing(shop) == before


def test_after_a_container_has_been_restarted_its_traffic_is_captured(shop):
    before = listing(shop)
    shop.node.podman("restart", "--time=1", shop.container("app"))
    wait_until_ready(shop)
    assert ask_outside(shop, "app", "198.18.0.99:80") == "the world outside\n"
    wait_until_seen(shop, ("outbound", "198.18.0.99:80"))
    assert listing(shop) == before


def test_after_the_pod_has_been_restarted_its_traffic_is_captured(shop):
    # Not `podman pod restart`: that makes a new network namespace without running the init containers again.
    shop.node.podman("pod", "stop", "--time=1", shop.name)
    shop.node.podman("pod", "start", shop.name)
    wait_until_ready(shop)
    assert ask_outside(shop, "app", "198.18.0.98:80") == "the world outside\n"
    wait_until_seen(shop, ("outbound", "198.18.0.98:80"))


# ------------------------------------------------------------------------------------ what must not start


def test_a_wrong_flag_keeps_the_pod_from_starting_and_says_why(play):
    pod = play(with_arguments(documents_of("pod.yaml"), "--proxy-port=0"), check=False)
    assert pod.played.returncode
    assert '--proxy-port: "0" is not a port; allowed: 1 to 65535' in pod.logs("sluice")
    assert pod.state("sluice")["State"]["ExitCode"] == 2
    assert {pod.state(name)["State"]["Status"] for name in ("envoy", "app")} == {"created"}


def test_without_net_admin_the_pod_does_not_start_and_says_what_is_missing(play):
    documents = documents_of("pod.yaml")
    del sluice_container(workload(documents))["securityContext"]["capabilities"]["add"]
    pod = play(documents, check=False)
    assert pod.state("sluice")["State"]["ExitCode"] == 4
    assert "CAP_NET_ADMIN" in pod.logs("sluice")
    assert pod.state("app")["State"]["Status"] == "created"


def test_the_network_of_the_node_is_refused(node, play):
    documents = documents_of("pod.yaml")
    workload(documents)["hostNetwork"] = True
    for container in workload(documents)["containers"]:
        container.pop("ports", None)  # which podman would want to publish
    before = pods.succeeded(pods.run(["nft", "list", "ruleset"], node.netns)).stdout
    pod = play(documents, check=False)
    assert pod.state("sluice")["State"]["ExitCode"] == 4
    assert "this is a node's own network namespace" in pod.logs("sluice")
    assert pod.state("app")["State"]["Status"] == "created"
    assert pods.succeeded(pods.run(["nft", "list", "ruleset"], node.netns)).stdout == before


# -------------------------------------------------------------------------------------- the other examples


def start_as_a_kubelet(pod, spec):
    """Runs the init containers one after the other, then all others; a native sidecar goes on, and the next waits for
    its startup probe. Podman 4.3 has no native sidecars and would wait for its end."""
    for container in spec["initContainers"]:
        name = container["name"]
        if container.get("restartPolicy") == "Always":
            pod.node.podman("start", pod.container(name))
            probe = container["startupProbe"]["httpGet"]["port"]
            pods.wait_until(lambda: pod.node.fetch(pod.address(IPV4), probe).stdout, f"{name} to be up", timeout=60)
        else:
            pod.start(name)
    for container in spec["containers"]:
        pod.node.podman("start", pod.container(container["name"]))


def test_native_sidecar(play):
    documents = playable("native-sidecar.yaml")
    spec = workload(documents)
    kubelet_sees = copy.deepcopy(spec)
    spec["containers"] = spec.pop("initContainers") + spec["containers"]
    pod = play(documents, "--start=false")
    start_as_a_kubelet(pod, kubelet_sees)
    wait_until_ready(pod)
    # The init container behind the sidecar got its answer, and through Envoy.
    assert pod.logs("migrate") == "the world outside\n"
    wait_until_seen(pod, ("outbound", SETTINGS_SERVER))


def test_init_containers_around_sluice(play):
    pod = play(playable("init-order.yaml"))
    wait_until_ready(pod)
    assert pod.logs("settings") == pod.logs("late") == "the world outside\n"
    assert ask_outside(pod, "app", SETTINGS_SERVER) == "the world outside\n"
    wait_until_seen(pod, ("outbound", SETTINGS_SERVER))
    # The application's only: neither init container's.
    assert seen_by_envoy(pod).count(("outbound", SETTINGS_SERVER)) == 1


def test_an_init_container_behind_sluice_that_is_not_excluded_has_no_network(play):
    documents = playable("init-order.yaml")
    late = next(one for one in workload(documents)["initContainers"] if one["name"] == "late")
    late["securityContext"]["runAsUser"] = 3001
    pod = play(documents, check=False)
    assert pod.played.returncode
    assert "Connection refused" in pod.logs("late")


def test_gateway(play, node):
    pod = play(playable("gateway.yaml"))
    wait_until_ready(pod)
    assert ask_outside(pod, "gateway", SETTINGS_SERVER) == "the world outside\n"
    wait_until_seen(pod, ("outbound", SETTINGS_SERVER))
    # It has answered from outside, in wait_until_ready, and Envoy has seen nothing of it.
    assert {original for _, original in seen_by_envoy(pod)} == {SETTINGS_SERVER}


def test_probes(play, node):
    pod = play(playable("probes.yaml"))
    wait_until_ready(pod)
    for family in FAMILIES:
        here = pod.address(family)
        assert node.fetch(here, PROBED).stdout == node.fetch(here, PORT).stdout == "the shop\n"
        wait_until_seen(pod, ("inbound", address(here, PORT)))
        assert ("inbound", address(here, PROBED)) not in seen_by_envoy(pod)
    assert ask_outside(pod, "app", "198.18.0.10:80") == "the world outside\n"
    wait_until_seen(pod, ("outbound", "198.18.0.10:80"))


# ---------------------------------------------------------------------- what needs neither pod nor cluster


def workloads():
    for file in FILES:
        for document in documents_of(file.name):
            if pod_spec(document):
                yield pytest.param(document, id=file.name)


def test_there_is_a_test_for_each_example():
    played = set(re.findall(r'(?:documents_of|playable)\("([a-z-]+\.yaml)"\)', pathlib.Path(__file__).read_text()))
    assert {file.name for file in FILES} == played | {"shared.yaml", "namespace.yaml"}


@pytest.mark.parametrize("document", workloads())
def test_kubernetes_knows_every_field(document):
    """kubectl reads the object as what it is said to be and writes it again; what it does not know is lost."""
    if not shutil.which("kubectl"):
        pytest.skip("needs the program kubectl")
    # Adding a variable is the way to have it read as a typed object without asking a server.
    argv = ["kubectl", "set", "env", "--local", "-f", "-", "SLUICE_TEST=read", "-o", "json"]
    done = subprocess.run(argv, input=json.dumps(document), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    lost = sorted(missing(document, json.loads(done.stdout)))
    assert not lost


def missing(wanted, found, path=""):
    """Paths of what is in the first value and not in the second, which may have more."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key, value in wanted.items():
            yield from missing(value, found.get(key), f"{path}.{key}")
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        for number, value in enumerate(wanted):
            yield from missing(value, found[number], f"{path}[{number}]")
    elif wanted != found:
        yield f"{path}: {wanted!r} became {found!r}"


@pytest.mark.parametrize("document", workloads())
def test_every_sluice_container_is_as_recommended(document):
    recommended = sluice_container(workload(documents_of("pod.yaml")))["securityContext"]
    assert sluice_container(pod_spec(document))["securityContext"] == recommended
    assert recommended["capabilities"] == {"drop": ["ALL"], "add": ["NET_ADMIN"]}


@pytest.mark.parametrize("document", workloads())
def test_every_option_is_right_and_none_is_doubtful(document, sluice):
    container = sluice_container(pod_spec(document))
    names = [source["configMapRef"]["name"] for source in container.get("envFrom", [])]
    maps = [one for file in FILES for one in documents_of(file.name) if one["kind"] == "ConfigMap"]
    env = {key: text for one in maps if one["metadata"]["name"] in names for key, text in one["data"].items()}
    assert bool(env) == bool(names)
    options = container.get("args", ["apply"])[1:]
    done = subprocess.run([sluice, "plan", *options], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_variables_of_a_service_can_stop_it(sluice):
    """Which is why an example turns them off, and kubernetes.md says so."""
    assert workload(documents_of("probes.yaml"))["enableServiceLinks"] is False
    env = {"SLUICE_PROXY_PORT": "tcp://10.96.0.1:80"}
    assert subprocess.run([sluice, "plan"], env=env, capture_output=True, timeout=60, check=False).returncode == 2


def test_kubernetes_md_quotes_the_examples():
    blocks = re.findall(r"```yaml\n((?s:.*?))```", (ROOT / "docs" / "kubernetes.md").read_text())
    assert blocks
    texts = [lines_of(file.read_text()) for file in FILES]
    for block in blocks:
        wanted = lines_of(block)
        assert any(holds(text, wanted) for text in texts), block


def lines_of(text):
    return [line.strip() for line in text.splitlines()]


def holds(text, wanted):
    return any(text[start : start + len(wanted)] == wanted for start in range(len(text)))
