"""A policy as large as they come: fifty thousand networks and five thousand port ranges, overlapping, adjacent, nested, in both families."""

import ipaddress
import json
import random

import pytest

import property as properties
from property import TCP

NETWORKS, RANGES = 50_000, 5_000
LARGEST_SET = 2_048


def networks(r):
    half, rest = NETWORKS // 2, NETWORKS // 10
    texts = [f"10.{n >> 8 & 255}.{n & 255}.{r.choice([0, 64, 128])}/{r.choice([25, 26, 28, 32])}" for n in range(half)]
    texts += [f"10.{r.randrange(96, 112)}.0.0/{r.choice([16, 18, 20, 24])}" for _ in range(rest)]
    while len(texts) < NETWORKS:
        texts.append(str(ipaddress.ip_network((some_ipv6(r), r.choice([58, 64, 64, 128])), strict=False)))
    r.shuffle(texts)
    return texts


def some_ipv6(r):
    """One of a million networks with a few addresses each, so that some overlap and most do not."""
    return 0x20010DB8 << 96 | r.randrange(16) << 80 | r.getrandbits(16) << 64 | r.randrange(1, 4)


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
    path, texts, ports = policy
    assert "created" in pod.sluice("--config", path).stdout
    assert "unchanged" in pod.sluice("--config", path).stdout
    listed = json.loads(pod.nft("-j", "list", "table", "inet", "sluice").stdout)["nftables"]
    assert lookups(listed, "exclude-port") == ["@exclude_outbound_ports"] * 2, "one for TCP and one for UDP"
    sets = {entry["set"]["name"]: entry["set"]["elem"] for entry in listed if "set" in entry}
    looked_up = [right for right in lookups(listed, "exclude-cidr") if isinstance(right, str)]
    for name, kind in (("exclude_outbound_v4", ipaddress.IPv4Network), ("exclude_outbound_v6", ipaddress.IPv6Network)):
        of_family = [kind(text, strict=False) for text in texts if (":" in text) == (kind is ipaddress.IPv6Network)]
        merged = list(ipaddress.collapse_addresses(of_family))
        assert len(merged) < len(of_family), "nothing overlaps, nothing was proved"
        pieces = [elements for set_name, elements in sets.items() if set_name.startswith(name)]
        assert len(pieces) > 1 and max(map(len, pieces)) <= LARGEST_SET
        assert sum(map(covered, pieces)) == sum(network.num_addresses for network in merged)
        assert sum(map(len, pieces)) <= len(merged), "neighbours are one"
        assert [right for right in looked_up if right.startswith(f"@{name}")] == [f"@{name}_{n + 1}" for n in range(len(pieces))]
    excluded = {port for first, _, last in (text.partition("-") for text in ports) for port in range(int(first), int(last) + 1)}
    assert covered(sets["exclude_outbound_ports"]) == len(excluded)
    assert len(sets["exclude_outbound_ports"]) < RANGES


def lookups(listed, comment):
    """The right-hand sides of what the rules of that name compare, in their order."""
    rules = [entry["rule"]["expr"] for entry in listed if entry.get("rule", {}).get("comment") == comment]
    return [expression["match"]["right"] for rule in rules for expression in rule if "match" in expression]


def covered(elements):
    """How many addresses or ports are in an nft set."""
    total = 0
    for element in elements:
        if not isinstance(element, dict):
            total += 1
        elif "prefix" in element:
            bits = ipaddress.ip_address(element["prefix"]["addr"]).max_prefixlen
            total += 1 << (bits - element["prefix"]["len"])
        else:
            first, last = (int(ipaddress.ip_address(end)) for end in element["range"])
            total += last - first + 1
    return total


@pytest.mark.parametrize("everything, family", [("0.0.0.0/0", "ipv4"), ("::/0", "ipv6")])
def test_one_network_that_is_everything_swallows_all_others(pod, policy, tmp_path, everything, family):
    _, texts, _ = policy
    path = tmp_path / "everything.toml"
    middle = len(texts) // 2
    path.write_text(f"exclude-outbound-cidrs = {json.dumps([*texts[:middle], everything, *texts[middle:]])}\n")
    done = pod.sluice("--config", path)
    assert f"exclude-outbound-cidrs: {everything} leaves no {family} destination" in done.stderr
    assert done.stderr.count("leaves no") == 1
    assert "unchanged" in pod.sluice("--config", path).stdout
    listed = json.loads(pod.nft("-j", "list", "table", "inet", "sluice").stdout)["nftables"]
    other = {"ipv4": "exclude_outbound_v6", "ipv6": "exclude_outbound_v4"}[family]
    assert {entry["set"]["name"].rpartition("_")[0] for entry in listed if "set" in entry} == {other}
    host = {"ipv4": ("192.0.2.1", "[2001:dba::1]"), "ipv6": ("[2001:dba::1]", "192.0.2.1")}[family]
    rules = [pod.sluice("explain", "--live", "--dst", f"{address}:80").stdout.splitlines()[0] for address in host]
    assert "[exclude-cidr]" in rules[0] and "[outbound]" in rules[1], rules


def test_many_ranges_that_are_every_port_are_told(pod, tmp_path):
    """Adjacent, overlapping, nested; one short of it is not worth a word."""
    firsts = range(1, 65_536, 13)
    ranges = [f"{first}-{min(first + width, 65_535)}" for first in firsts for width in (12, 20, 3)]
    assert len(ranges) > RANGES
    path = tmp_path / "ports.toml"
    for listed, told in ((ranges[::-1], True), ([text for text in ranges if not text.endswith("-65535")], False)):
        path.write_text(f"exclude-outbound-ports = {json.dumps(listed)}\n")
        assert ("exclude-outbound-ports: covers every port" in pod.sluice("--config", path).stderr) == told


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
        outbound = [(probe, decision) for probe, decision in zip(probes, decisions) if probe.protocol == TCP]
        met = {(decision["rule"], ":" in probe.destination) for probe, decision in outbound}
        assert {(rule, six) for rule in ("exclude-cidr", "exclude-port", "outbound") for six in (True, False)} <= met


def some_address(r, version):
    """In or near what is excluded, and always one that the world answers on."""
    if version == 4:
        return str(ipaddress.ip_address(ipaddress.ip_address("10.96.0.0") + r.randrange(1, 1 << 20)))
    return str(ipaddress.ip_address(some_ipv6(r)))


def test_ten_thousand_single_ports_are_an_interval_set(pod):
    """As a set of single ports the kernel takes forty times as long to fill it."""
    ports = ",".join(map(str, range(20_001, 40_001, 2)))
    assert "created" in pod.sluice("--exclude-outbound-ports", ports).stdout
    assert "flags interval" in pod.nft("list", "set", "inet", "sluice", "exclude_outbound_ports").stdout
    assert "unchanged" in pod.sluice("--exclude-outbound-ports", ports).stdout
    for port, rule in ((20_000, "outbound"), (20_001, "exclude-port"), (39_999, "exclude-port"), (40_000, "outbound")):
        assert f"[{rule}]" in pod.sluice("explain", "--live", "--dst", f"198.18.0.1:{port}").stdout.splitlines()[0]
