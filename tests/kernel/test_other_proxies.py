"""Nothing about the rules is Envoy's own: any proxy that reads SO_ORIGINAL_DST works."""

import shutil

import pytest

from pod import INBOUND_PORT, IPV4, IPV6, address
from proxies import HAProxy, Redsocks

APPLY = ("apply", "--inbound-port", str(INBOUND_PORT))


def need(program):
    if not shutil.which(program):
        pytest.skip(f"needs the program {program}")


@pytest.fixture
def served(pod):
    pod.world.serve("world", 80, 443)
    pod.app.serve("app", 5000)
    return pod


# ------------------------------------------------------------------------------------------------ HAProxy


@pytest.fixture
def haproxy(served):
    need("haproxy")
    return HAProxy(served)


def test_haproxy_outbound(served, haproxy):
    served.sluice(*APPLY)
    answer = served.app.ask(IPV4.outside, 80)
    assert (answer.name, answer.local) == ("world", address(IPV4.outside, 80))
    assert haproxy.wait_for_lines(1) == [("outbound", address(IPV4.outside, 80), "-")]


def test_haproxy_inbound(served, haproxy):
    served.sluice(*APPLY)
    answer = served.world.ask(IPV4.pod, 5000)
    assert answer.name == "app"
    # Captured for certain: the application saw HAProxy's address as its caller, not WORLD's.
    assert answer.peer.startswith(address(IPV4.pod, ""))
    assert haproxy.wait_for_lines(1) == [("inbound", address(IPV4.pod, 5000), "-")]


def test_haproxy_is_left_out_when_told_so_and_after_cleanup(served, haproxy):
    served.sluice(*APPLY, "--ip-family", "ipv4", "--exclude-outbound-ports", "443")
    assert served.app.name_at(IPV4.outside, 443) == "world"
    # HAProxy cannot serve IPv6, so this one must not have been sent to it.
    assert served.app.name_at(IPV6.outside, 80) == "world"
    served.sluice("cleanup")
    assert served.app.name_at(IPV4.outside, 80) == "world"
    assert served.world.name_at(IPV4.pod, 5000) == "app"
    # One captured connection at the end, so that "no other line" is not just "no line yet".
    served.sluice(*APPLY)
    assert served.app.name_at(IPV4.outside, 80) == "world"
    assert haproxy.wait_for_lines(1) == [("outbound", address(IPV4.outside, 80), "-")]


# ----------------------------------------------------------------------------------------------- redsocks


@pytest.fixture
def redsocks(served):
    need("redsocks")
    served.world.serve_socks("socks", Redsocks.SOCKS_PORT)
    return Redsocks(served)


def asked_of_socks(pod):
    """The destinations that the SOCKS server in WORLD was asked for."""
    return [connection["original"] for connection in pod.world.accepted() if connection["name"] == "socks"]


def test_redsocks_outbound(served, redsocks):
    served.sluice(*APPLY, "--inbound-mode", "off")
    assert served.app.name_at(IPV4.outside, 80) == "world"
    # Exactly one: its own connection to the SOCKS server was not captured.
    assert asked_of_socks(served) == [address(IPV4.outside, 80)]


def test_redsocks_is_left_out_when_told_so_and_after_cleanup(served, redsocks):
    served.sluice(*APPLY, "--inbound-mode", "off", "--exclude-outbound-cidrs", IPV4.other_cidr)
    assert served.app.name_at(IPV4.other, 80) == "world"
    served.sluice("cleanup")
    assert served.app.name_at(IPV4.outside, 80) == "world"
    assert asked_of_socks(served) == []
