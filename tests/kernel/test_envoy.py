"""The real thing: Envoy as the sidecar, under UID 1337.

Twice: "plain", where Envoy calls its application from its own address, and "istio-like", where it calls from
127.0.0.6 and ::6 and a call to one's own service goes through the inbound side as well.
"""

import contextlib
import os

import pytest

import pod as pods
from pod import APP_UID, FAMILIES, INBOUND_PORT, PROXY_UID, address
from proxies import SERVICE_PORT, Envoy

ISTIO_LIKE = ("--hairpin", "inbound", "--passthrough-source", "127.0.0.6,::6")
FOREIGN = """
table ip foreign {
    set known { type ipv4_addr; elements = { 192.0.2.1 }; }
    chain unused { tcp dport 80 accept; }
}
"""


class Sidecar:
    """A pod with Envoy in it."""

    def __init__(self, pod, istio_like):
        self.pod, self.istio_like = pod, istio_like
        self.options = ISTIO_LIKE if istio_like else ()
        self.envoy = Envoy(pod, passthrough=istio_like)

    def apply(self, *options):
        self.pod.sluice("apply", "--inbound-port", INBOUND_PORT, *self.options, *options)

    @contextlib.contextmanager
    def watch(self):
        """Collects, sorted, the (direction, original destination) of each connection Envoy takes in the block."""
        seen = []
        before = len(self.envoy.all_lines())
        yield seen
        seen += sorted((way, original) for way, original, _ in self.envoy.all_lines()[before:])


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "istio-like"])
def running_sidecar(sluice, request):
    binary = pods.envoy_binary()
    if not binary or not os.access(binary, os.X_OK):
        pytest.skip(f"there is no Envoy at {binary or 'build/venv'}; install it or set ENVOY_BIN")
    with pods.Pod() as pod:
        pod.world.serve("world", 80, 443)
        pod.app.serve("app", SERVICE_PORT, 5001)
        yield Sidecar(pod, request.param)


@pytest.fixture
def sidecar(running_sidecar):
    yield running_sidecar
    running_sidecar.pod.sluice("cleanup")


def test_without_rules_envoy_sees_nothing(sidecar, family):
    with sidecar.watch() as seen:
        assert sidecar.pod.app.name_at(family.outside, 80) == "world"
        assert sidecar.pod.world.name_at(family.pod, SERVICE_PORT) == "app"
    assert seen == []


def test_outbound_goes_through_envoy_once(sidecar, family):
    sidecar.apply()
    with sidecar.watch() as seen:
        answer = sidecar.pod.app.ask(family.outside, 80)
    # The answer comes from the real server, reached by the address that was asked for; one line means no loop.
    assert (answer.name, answer.local) == ("world", address(family.outside, 80))
    assert seen == [("outbound", address(family.outside, 80))]


def test_inbound_goes_through_envoy_once(sidecar, family):
    sidecar.apply()
    with sidecar.watch() as seen:
        answer = sidecar.pod.world.ask(family.pod, SERVICE_PORT)
    assert answer.name == "app"
    assert seen == [("inbound", address(family.pod, SERVICE_PORT))]
    caller = family.passthrough if sidecar.istio_like else family.pod
    assert answer.peer.startswith(address(caller, ""))


def test_ten_connections_are_ten_lines(sidecar, family):
    sidecar.apply()
    with sidecar.watch() as seen:
        for _ in range(5):
            sidecar.pod.app.ask(family.outside, 443)
            sidecar.pod.world.ask(family.pod, 5001)
    inbound, outbound = ("inbound", address(family.pod, 5001)), ("outbound", address(family.outside, 443))
    assert seen == 5 * [inbound] + 5 * [outbound]


def test_a_call_to_ones_own_service(sidecar, family):
    """The service address leads back into the pod: through the inbound side too, if `--hairpin inbound` says so."""
    sidecar.apply()
    with sidecar.watch() as seen:
        answer = sidecar.pod.app.ask(family.service, SERVICE_PORT)
    assert answer.name == "app"
    outbound = ("outbound", address(family.service, SERVICE_PORT))
    inbound = ("inbound", address(family.pod, SERVICE_PORT))
    assert seen == ([inbound, outbound] if sidecar.istio_like else [outbound])


def test_envoys_own_connections_are_not_captured(sidecar, family):
    sidecar.apply()
    with sidecar.watch() as seen:
        answer = sidecar.pod.proxy.ask(family.outside, 80)
    assert (answer.name, seen) == ("world", [])


@pytest.mark.parametrize(
    "options, uid, destination, port",
    [
        (["--exclude-outbound-ports", "443"], APP_UID, "outside", 443),
        (["--exclude-outbound-cidrs", ",".join(family.other_cidr for family in FAMILIES)], APP_UID, "other", 80),
        (["--proxy-uid", f"{PROXY_UID},3000"], 3000, "outside", 80),
    ],
    ids=["port", "cidr", "uid"],
)
def test_what_is_excluded_goes_direct(sidecar, family, options, uid, destination, port):
    sidecar.apply(*options)
    with sidecar.watch() as seen:
        assert sidecar.pod.user(uid).name_at(getattr(family, destination), port) == "world"
    assert seen == []
    # And only that.
    with sidecar.watch() as seen:
        assert sidecar.pod.app.name_at(family.outside, 80) == "world"
    assert seen == [("outbound", address(family.outside, 80))]


def test_after_cleanup_everything_is_as_before(sidecar):
    pod = sidecar.pod
    pod.nft("-f", "-", stdin=FOREIGN)
    before = pod.ruleset()
    sidecar.apply()
    assert pod.ruleset() != before
    pod.sluice("cleanup")
    assert pod.ruleset() == before
    with sidecar.watch() as seen:
        for family in FAMILIES:
            assert pod.app.name_at(family.outside, 80) == "world"
            assert pod.world.name_at(family.pod, SERVICE_PORT) == "app"
    assert seen == []
    pod.nft("delete", "table", "ip", "foreign")
