"""Docker's own name server: it answers on 127.0.0.11, by NAT rules that Docker puts into the container's namespace.

They stand in the tables of iptables, in both programs' forms. Names must resolve before sluice comes, while it comes and goes, with its
rules in place, and after it, and Docker's rules must stay as they are.
"""

import itertools
import re

import pytest

import pod as pods
from pod import APPLY
from test_iptables import BACKENDS, restore, run

SERVER, TCP_PORT, UDP_PORT = "127.0.0.11", 39653, 47317
DNS_PORT = 15053
# Below those that the kernel gives to others.
source_ports = itertools.count(22_000)
RESOLV_CONF = f"nameserver {SERVER}\noptions ndots:0\n"

# As dockerd 24 writes them, libnetwork/resolver_unix.go.
RULES = f"""*nat
:DOCKER_OUTPUT - [0:0]
:DOCKER_POSTROUTING - [0:0]
-A OUTPUT -d {SERVER}/32 -j DOCKER_OUTPUT
-A POSTROUTING -d {SERVER}/32 -j DOCKER_POSTROUTING
-A DOCKER_OUTPUT -d {SERVER}/32 -p tcp -m tcp --dport 53 -j DNAT --to-destination {SERVER}:{TCP_PORT}
-A DOCKER_OUTPUT -d {SERVER}/32 -p udp -m udp --dport 53 -j DNAT --to-destination {SERVER}:{UDP_PORT}
-A DOCKER_POSTROUTING -s {SERVER}/32 -p tcp -m tcp --sport {TCP_PORT} -j SNAT --to-source :53
-A DOCKER_POSTROUTING -s {SERVER}/32 -p udp -m udp --sport {UDP_PORT} -j SNAT --to-source :53
COMMIT
"""


@pytest.fixture(scope="module", params=["nft", "legacy"])
def container(sluice, request):
    with pods.Pod() as pod:
        pod.docker_variant = request.param
        restore(pod, {"iptables": RULES}, request.param, pod.name)
        pod.root.serve("docker", TCP_PORT, hosts=[SERVER])
        pod.root.serve_datagrams("docker", UDP_PORT, hosts=[SERVER])
        pod.proxy.serve("outbound", pods.OUTBOUND_PORT)
        # A DNS proxy that asks Docker's server, as Envoy does.
        pod.proxy.serve("proxy", DNS_PORT, relay=True)
        pod.proxy.serve_datagrams("proxy", DNS_PORT, upstream=(SERVER, 53))
        yield pod


def rules_of_docker(pod):
    text = run(pod, f"iptables-{pod.docker_variant}-save", "-t", "nat")
    return [line for line in text.splitlines() if line.startswith((":DOCKER", "-A")) and "SLUICE" not in line]


def resolvers(pod, process):
    """Who answers a query over UDP, and who one over TCP: the proxy and whom it asked, or Docker's server alone."""
    # Named, so that the proxy can ask from the same one, where the queries must not meet.
    datagram = process.ask_datagram(SERVER, 53, source_port=next(source_ports))
    stream = process.ask(SERVER, 53)
    over_udp = [datagram["name"], *(datagram[key]["name"] for key in ("upstream",) if key in datagram)]
    return over_udp, [*stream.via, stream.name]


def resolvers_patiently(pod, retries):
    """The old tables are committed one after the other: between the one that redirects a query and the one that gives it
    a conntrack zone its answer may be lost, and a resolver asks again."""
    try:
        return resolvers(pod, pod.app)
    except pods.NoAnswer:
        if not retries:
            raise
        return resolvers(pod, pod.app)


@pytest.mark.parametrize("dns", ["off", "resolv-conf", "all"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_names_resolve_before_during_and_after(container, backend, dns):
    pod, options = container, (*APPLY, *BACKENDS[backend], "--dns", dns)
    direct, proxied = ["docker"], ["proxy", "docker"]
    expected = direct if dns == "off" else proxied
    before = rules_of_docker(pod)
    assert len(before) == 8, before
    assert resolvers(pod, pod.app) == (direct, direct)

    for more in ((), ("--exclude-outbound-ports", "9"), ()):
        # Where sluice has to see another resolv.conf, it is not easily left running.
        applying = pod.sluice_process(*options, *more) if dns != "resolv-conf" else None
        while applying and applying.poll() is None:
            for path in resolvers_patiently(pod, retries=backend == "iptables-legacy" and dns != "off"):
                assert path in (direct, expected)
        done = applying.communicate()[1] if applying else pod.sluice(*options, *more, resolv_conf=RESOLV_CONF).stderr
        assert "error" not in done and (applying is None or applying.returncode == 0), done
        assert resolvers(pod, pod.app) == (expected, expected)
        assert resolvers(pod, pod.proxy) == (direct, direct)
        assert pod.app.name_at("198.18.0.10", 80) == "outbound"
        assert rules_of_docker(pod) == before

    pod.sluice("cleanup")
    assert resolvers(pod, pod.app) == (direct, direct)
    assert rules_of_docker(pod) == before
