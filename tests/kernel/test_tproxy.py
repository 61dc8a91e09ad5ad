"""Inbound by TPROXY: a real transparent listener, end to end, and the routing that leads packets to it."""

import pytest

import pod as pods
from pod import APPLY, INBOUND_PORT, IPV4, OUTBOUND_PORT, PROXY_UID, address

TPROXY = (*APPLY, "--inbound-mode", "tproxy")
MARK, TABLE = 1337, 133


def serve(pod, mark=MARK):
    pod.world.serve("world", 80)
    pod.app.serve("app", 5000)
    pod.proxy.serve("outbound", OUTBOUND_PORT)
    pod.user(PROXY_UID, net_admin=True).serve_transparent("inbound", INBOUND_PORT, mark)


@pytest.fixture(scope="module")
def running_pod(sluice):
    with pods.Pod() as pod:
        serve(pod)
        yield pod


@pytest.fixture
def pod_with_tproxy(running_pod):
    running_pod.sluice(*TPROXY)
    yield running_pod
    running_pod.sluice("cleanup")


def last_accepted(pod):
    return pod.user(PROXY_UID, net_admin=True).accepted()[-1]


def seen_end_to_end(pod, family, **how):
    """Asks from WORLD and checks who saw whom on the way: everybody the client, and the proxy the destination."""
    answer = pod.world.ask(family.pod, 5000, **how)
    accepted = last_accepted(pod)
    assert (answer.name, answer.via) == ("app", ["inbound"])
    assert answer.local == accepted["local"] == address(family.pod, 5000)
    assert answer.peer.startswith(address(family.world, ""))
    assert accepted["peer"].startswith(address(family.world, ""))
    # Two connections, one to the proxy and one to the application.
    assert answer.peer != accepted["peer"]


# ---------------------------------------------------------------------------------------- what is captured


def test_the_clients_address_is_kept_all_the_way(pod_with_tproxy, family):
    seen_end_to_end(pod_with_tproxy, family)


def test_the_same_with_hairpin(running_pod, family):
    running_pod.sluice(*TPROXY, "--hairpin", "inbound", "--passthrough-source", "127.0.0.6,::6")
    seen_end_to_end(running_pod, family)
    running_pod.sluice("cleanup")


def test_data_flows_both_ways(pod_with_tproxy, family):
    held, _ = pod_with_tproxy.world.hold(family.pod, 5000)
    for text in ("one", "two", "three"):
        assert pod_with_tproxy.world.echo_on(held, text) == text


def test_the_pod_itself_is_served_as_without_tproxy(pod_with_tproxy, family):
    pod = pod_with_tproxy
    assert pod.app.name_at(family.outside, 80) == "outbound"
    assert pod.proxy.name_at(family.outside, 80) == "world"
    for host in (family.loopback, family.pod):
        assert pod.app.ask(host, 5000).via == []
        assert pod.proxy.ask(host, 5000).via == []


@pytest.mark.parametrize(
    "option, value",
    [("--exclude-inbound-ports", "5000"), ("--exclude-inbound-cidrs", "{world}"), ("--exclude-interfaces", "eth*")],
)
def test_what_is_excluded_goes_direct(running_pod, family, option, value):
    running_pod.sluice(*TPROXY, option, value.format(world=family.world))
    answer = running_pod.world.ask(family.pod, 5000)
    running_pod.sluice("cleanup")
    assert (answer.name, answer.via) == ("app", [])


def test_the_proxys_port_is_refused_when_dialled_directly(pod_with_tproxy, family):
    assert "Refused" in pod_with_tproxy.world.name_at(family.pod, INBOUND_PORT)


@pytest.mark.parametrize("mark, table", [(0x100, 200), (0xFFFFFFFF, 70000)])
def test_another_mark_and_table(pod, family, mark, table):
    serve(pod, mark)
    pod.sluice(*TPROXY, "--tproxy-mark", hex(mark), "--tproxy-table", table)
    seen_end_to_end(pod, family)


def test_a_strict_reverse_path_filter_is_no_obstacle(pod):
    serve(pod)
    pod.sysctl("net.ipv4.conf.all.rp_filter=1", "net.ipv4.conf.lo.rp_filter=1", "net.ipv4.conf.eth0.rp_filter=1")
    pod.sluice(*TPROXY)
    seen_end_to_end(pod, IPV4)


@pytest.mark.parametrize("ending", ["client", "server", "reset"])
def test_a_client_comes_back_from_the_same_port(pod_with_tproxy, family, ending):
    """Whoever closes first has a socket in TIME_WAIT, and conntrack an entry for the old connection."""
    for _ in range(5):
        seen_end_to_end(pod_with_tproxy, family, source_port=40000, ending=ending)


def test_connections_made_before_go_on_and_so_do_captured_ones(running_pod, family):
    world = running_pod.world
    direct, before = world.hold(family.pod, 5000)
    running_pod.sluice(*TPROXY)
    captured, after = world.hold(family.pod, 5000)
    assert (before.via, after.via) == ([], ["inbound"])
    for step in (TPROXY, (*TPROXY, "--exclude-inbound-ports", "1"), APPLY, TPROXY):
        running_pod.sluice(*step)
        assert world.echo_on(direct, "still there") == "still there"
        if step != APPLY:
            assert world.echo_on(captured, "still there") == "still there"
    running_pod.sluice("cleanup")
    assert world.echo_on(direct, "still there") == "still there"


# ----------------------------------------------------------------------------------------- routing and rules


def routing(pod):
    """Every routing rule and route of the tables in question, without the kernel's own."""
    shown = []
    for version in ("-4", "-6"):
        rules = pods.succeeded(pods.run(["ip", "-o", version, "rule", "show"], pod.name)).stdout
        shown += [f"{version} {line.split(None, 1)[1]}" for line in rules.splitlines() if "fwmark" in line]
        routes = pods.succeeded(pods.run(["ip", "-o", version, "route", "show", "table", "all"], pod.name)).stdout
        shown += [f"{version} {line.strip()}" for line in routes.splitlines() if "proto 115" in line]
    return shown


def expected(version, mark, table):
    metric = " metric 1024 pref medium" if version == "-6" else " scope host"
    return [
        f"{version} from all fwmark {mark:#x} lookup {table} proto 115",
        f"{version} local default dev lo table {table} proto 115{metric}",
    ]


def test_the_rules_and_routes_appear_once_and_go_again(pod):
    before = pod.state()
    pod.sluice(*TPROXY)
    assert routing(pod) == expected("-4", MARK, TABLE) + expected("-6", MARK, TABLE)
    applied = pod.state()
    pod.sluice(*TPROXY)
    assert pod.state() == applied
    pod.sluice("cleanup")
    assert pod.state() == before


@pytest.mark.parametrize("only, version", [("ipv4", "-4"), ("ipv6", "-6")])
def test_one_family_alone_gets_its_routing_alone(pod, only, version):
    pod.sluice(*TPROXY, "--ip-family", only)
    assert routing(pod) == expected(version, MARK, TABLE)


def test_a_replacement_moves_the_routing(pod):
    pod.sluice(*TPROXY)
    pod.sluice(*TPROXY, "--tproxy-mark", "5", "--tproxy-table", "55")
    assert routing(pod) == expected("-4", 5, 55) + expected("-6", 5, 55)
    pod.sluice(*APPLY)
    assert routing(pod) == []


def test_what_others_routed_stays(pod):
    pod.ip("rule add fwmark 0x539 lookup 133", "rule add fwmark 7 lookup 7")
    pod.ip("route add blackhole 192.0.2.0/24 table 133")
    before = pod.state()
    pod.sluice(*TPROXY)
    pod.sluice("cleanup")
    assert pod.state() == before


def test_what_somebody_removed_is_put_back(pod):
    pod.sluice(*TPROXY)
    applied = pod.state()
    pod.ip("rule del fwmark 1337 lookup 133")
    pods.succeeded(pods.run(["ip", "-6", "route", "flush", "table", "133"], pod.name))
    assert pod.state() != applied
    pod.sluice(*TPROXY)
    assert pod.state() == applied


@pytest.mark.parametrize("options", [TPROXY, APPLY], ids=["tproxy", "redirect"])
def test_what_a_killed_run_left_behind_is_removed_by_the_next(pod, options):
    pod.sluice(*options)
    applied = pod.state()
    pod.ip("rule add fwmark 7 lookup 77 protocol 115", "route add local default dev lo table 77 protocol 115")
    assert "unchanged" in pod.sluice(*options).stdout
    assert pod.state() == applied


@pytest.mark.parametrize("backend", ["nftables", "iptables"])
def test_without_a_listener_nothing_gets_past_the_proxy(mesh, family, backend):
    mesh.sluice("--inbound-mode", "tproxy", "--inbound-port", "15999", "--backend", backend)
    assert "timed out" in mesh.world.name_at(family.pod, 5000)
