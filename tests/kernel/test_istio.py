"""`--preset istio` against the rules that istio-iptables makes by default, in one kernel: every connection lands in the same place,
but for the differences that docs/istio.md explains. Each of those is seen here, too."""

import pathlib
import random
import re

import pytest

import pod as pods
import property as properties
from property import TCP

DOCUMENT = (pathlib.Path(__file__).resolve().parents[2] / "docs" / "istio.md").read_text()
PRESET = {"preset": "istio", "passthrough-source": "127.0.0.6,::6"}

# What `iptables-save` shows in a pod after `istio-iptables -p 15001 -z 15006 -u 1337 -g 1337 -i '*' -b '*' -d 15090,15021,15020`.
ISTIO = """\
*nat
:ISTIO_INBOUND - [0:0]
:ISTIO_IN_REDIRECT - [0:0]
:ISTIO_OUTPUT - [0:0]
:ISTIO_REDIRECT - [0:0]
-A PREROUTING -p tcp -j ISTIO_INBOUND
-A OUTPUT -j ISTIO_OUTPUT
-A ISTIO_INBOUND -p tcp -m tcp --dport 15008 -j RETURN
-A ISTIO_INBOUND -p tcp -m tcp --dport 15090 -j RETURN
-A ISTIO_INBOUND -p tcp -m tcp --dport 15021 -j RETURN
-A ISTIO_INBOUND -p tcp -m tcp --dport 15020 -j RETURN
-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT
-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006
-A ISTIO_OUTPUT -s {passthrough} -o lo -j RETURN
-A ISTIO_OUTPUT ! -d {loopback} -o lo -p tcp -m tcp ! --dport 15008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -o lo -m owner ! --uid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN
-A ISTIO_OUTPUT ! -d {loopback} -o lo -p tcp -m tcp ! --dport 15008 -m owner --gid-owner 1337 -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -o lo -m owner ! --gid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -m owner --gid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -d {loopback} -j RETURN
-A ISTIO_OUTPUT -j ISTIO_REDIRECT
-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001
COMMIT
"""


def difference(probe):
    """The name of the documented difference that this connection falls under, if any."""
    if probe.protocol != TCP:
        return None
    if probe.at != "pod" and probe.passed_to != "pod":
        return None if probe.destination_port == 15008 else "forwarded"
    if probe.at != "pod" and probe.destination_port in (15001, 15006):
        return "proxy-port"
    spared = probe.destination in ("127.0.0.1", "::1") or probe.source in ("127.0.0.6", "::6")
    # To 15006 both come to the same.
    spared = spared or probe.destination_port in (15006, 15008)
    if probe.interface == "lo" and probe.uid != 1337 and probe.gid == 1337 and not spared:
        return "hairpin by group"
    return None


def landings_by_istio(laboratory, probes):
    pod = laboratory.pod
    pod.sluice("cleanup")
    pod.ip("addr add ::6/128 dev lo nodad")
    for program, values in (("iptables", {"passthrough": "127.0.0.6/32", "loopback": "127.0.0.1/32"}),
                            ("ip6tables", {"passthrough": "::6/128", "loopback": "::1/128"})):
        pods.succeeded(pods.run([f"{program}-nft-restore"], pod.name, stdin=ISTIO.format(**values)))
    return laboratory.dial(probes)


@pytest.fixture(scope="module")
def compared(sluice):
    """(probe, where it lands with sluice, where with Istio's rules), for some thousand connections."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    r = random.Random(seed)
    probes = [properties.random_probe(r, PRESET) for _ in range(4000)]
    batches = [probes[at : at + 200] for at in range(0, len(probes), 200)]
    with properties.Laboratory("nftables", properties.judge_binary()) as laboratory:
        laboratory.apply(PRESET)
        ours = [landing for batch in batches for landing in laboratory.dial(batch)]
        theirs = landings_by_istio(laboratory, batches[0])
        theirs += [landing for batch in batches[1:] for landing in laboratory.dial(batch)]
    return list(zip(probes, ours, theirs))


def test_everything_else_lands_where_istio_sends_it(compared):
    differing = [(probe, ours, theirs) for probe, ours, theirs in compared if ours != theirs and difference(probe) is None]
    assert not differing[:5]


@pytest.mark.parametrize("name", ["forwarded", "proxy-port", "hairpin by group"])
def test_a_documented_difference_is_one(compared, name):
    those = [(ours, theirs) for probe, ours, theirs in compared if difference(probe) == name]
    assert those
    assert all(ours != theirs for ours, theirs in those)
    assert re.search(rf"^### {re.escape(name)}$", DOCUMENT, re.M)
