"""A policy as large as they come: fifty thousand networks and five thousand port ranges, overlapping, adjacent, nested, in both families."""

import ipaddress
import json
import random

import pytest

import property as properties
from property import TCP

NETWORKS, RANGES = 50_000, 5_000


def networks(r):
    half, rest = NETWORKS // 2, NETWORKS // 10
    texts = [f"10.{n >> 8 & 255}.{n & 255}.{r.choice([0, 64, 128])}/{r.choice([25, 26, 28, 32])}" for n in range(half)]
    texts += [f"10.{r.randrange(96, 112)}.0.0/{r.choice([16, 18, 20, 24])}" for _ in range(rest)]
    while len(texts) < NETWORKS:
        address = 0x20010DB8 << 96 | r.getrandbits(32) << 48 | r.getrandbits(16)
        texts.append(str(ipaddress.ip_network((address, r.choice([48, 56, 64, 128])), strict=False)))
    r.shuffle(texts)
    return texts


def ranges(r):
    firsts = [r.randrange(1000, 60_000) for _ in range(RANGES)]
    return [f"{first}-{first + r.choice([0, 1, 3, 40])}" for first in firsts]


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    r = random.Random(1)
    path = tmp_path_factory.mktemp("policy") / "large.toml"
    texts, ports = networks(r), ranges(r)
    path.write_text(f"exclude-outbound-cidrs = {json.dumps(texts)}\nexclude-outbound-ports = {json.dumps(ports)}\n")
    return path, texts, ports


def test_it_loads_reads_back_and_is_unchanged_the_second_time(pod, policy):
    path, texts, _ = policy
    assert "created" in pod.sluice("--config", path).stdout
    assert "unchanged" in pod.sluice("--config", path).stdout
    listed = json.loads(pod.nft("-j", "list", "table", "inet", "sluice").stdout)["nftables"]
    rules = [entry["rule"] for entry in listed if "rule" in entry and entry["rule"].get("comment") == "exclude-cidr"]
    assert len(rules) == 2, "one lookup a family, not a rule for each network"
    sets = {entry["set"]["name"]: entry["set"]["elem"] for entry in listed if "set" in entry}
    merged = list(ipaddress.collapse_addresses(ipaddress.IPv4Network(t, strict=False) for t in texts if "." in t))
    assert covered(sets["exclude_outbound_v4"]) == sum(network.num_addresses for network in merged)


def covered(elements):
    """How many addresses are in an nft set."""
    total = 0
    for element in elements:
        if isinstance(element, str):
            total += 1
        elif "prefix" in element:
            total += 1 << (32 - element["prefix"]["len"])
        else:
            first, last = (int(ipaddress.ip_address(end)) for end in element["range"])
            total += last - first + 1
    return total


def test_the_kernel_decides_by_it(sluice, policy):
    path, texts, ports = policy
    with properties.Laboratory("nftables", properties.judge_binary()) as laboratory:
        laboratory.pod.sluice("--config", path)
        options = {"exclude-outbound-cidrs": ",".join(texts), "exclude-outbound-ports": ",".join(ports)}
        r = random.Random(2)
        probes = []
        for _ in range(300):
            probe = properties.random_probe(r, {})
            if probe.at == "pod" and probe.interface == "eth0":
                probe.destination = some_address(r, 6 if ":" in probe.destination else 4)
            probes.append(probe)
        decisions = laboratory.decisions(options, probes)
        expected = [laboratory.expected(probe, decision) for probe, decision in zip(probes, decisions)]
        assert laboratory.dial(probes) == expected
        by_rule = {decision["rule"] for probe, decision in zip(probes, decisions) if probe.protocol == TCP}
        assert {"exclude-cidr", "outbound"} <= by_rule


def some_address(r, version):
    """In or near what is excluded, and always one that the world answers on."""
    if version == 4:
        return str(ipaddress.ip_address(ipaddress.ip_address("10.96.0.0") + r.randrange(1, 1 << 20)))
    return str(ipaddress.ip_address(0x20010DB8 << 96 | r.getrandbits(32) << 48 | r.randrange(1, 4)))


def test_ten_thousand_single_ports_are_an_interval_set(pod):
    """As a set of single ports the kernel takes forty times as long to fill it."""
    ports = ",".join(map(str, range(20_001, 40_001, 2)))
    assert "created" in pod.sluice("--exclude-outbound-ports", ports).stdout
    assert "flags interval" in pod.nft("list", "set", "inet", "sluice", "exclude_outbound_ports").stdout
    assert "unchanged" in pod.sluice("--exclude-outbound-ports", ports).stdout
    for port, rule in ((20_000, "outbound"), (20_001, "exclude-port"), (39_999, "exclude-port"), (40_000, "outbound")):
        assert f"[{rule}]" in pod.sluice("explain", "--live", "--dst", f"198.18.0.1:{port}").stdout.splitlines()[0]
