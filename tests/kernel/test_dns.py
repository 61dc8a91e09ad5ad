"""DNS capture, over UDP and TCP: which queries go to the proxy, and that its own never meet the application's.

The DNS proxy here is called "dns", the name servers outside "world", one inside the pod "local".
"""

import pytest

import pod as pods
from pod import APPLY, FAMILIES

DNS_PORT, OTHER_DNS_PORT, RELAY_PORT = 15053, 15054, 15153
RESOLVER_UID = 101
LOCAL_SERVER = {"ipv4": "127.0.0.53", "ipv6": "::1"}


def dns_pod():
    """One proxy that answers at once, and the servers it may be asked instead of."""
    pod = pods.Pod()
    pod.sysctl("net.ipv4.ip_unprivileged_port_start=0")
    pod.world.serve("world", 53, 54)
    pod.world.serve_datagrams("world", 53)
    pod.world.serve_datagrams("world", 54)
    pod.proxy.serve("outbound", pods.OUTBOUND_PORT)
    for name, port in (("dns", DNS_PORT), ("other", OTHER_DNS_PORT)):
        pod.proxy.serve(name, port)
        pod.proxy.serve_datagrams(name, port)
    resolver = pod.user(RESOLVER_UID)
    resolver.serve("local", 53, hosts=list(LOCAL_SERVER.values()))
    resolver.serve_datagrams("local", 53, hosts=list(LOCAL_SERVER.values()))
    return pod


@pytest.fixture(scope="module")
def running_pod(sluice):
    with dns_pod() as pod:
        yield pod


@pytest.fixture
def pod(running_pod):
    yield running_pod
    running_pod.sluice("cleanup")


@pytest.fixture(params=["udp", "tcp"])
def ask(request):
    """ask(process, host, port=53): who answers there over that protocol."""

    def name(process, host, port=53):
        return (process.name_at_datagram if request.param == "udp" else process.name_at)(host, port)

    name.protocol = request.param
    return name


def resolv_conf(*servers):
    return "".join(f"nameserver {server}\n" for server in servers)


def capture_all(pod, *options):
    pod.sluice(*APPLY, "--dns", "all", *options)


def capture_named(pod, *servers):
    pod.sluice(*APPLY, "--dns", "resolv-conf", resolv_conf=resolv_conf(*servers))


# ------------------------------------------------------------------------------------------ which queries


def test_without_dns_capture_udp_goes_direct_and_tcp_is_captured_as_any(pod, family):
    pod.sluice(*APPLY)
    assert pod.app.name_at_datagram(family.outside, 53) == "world"
    assert pod.app.name_at(family.outside, 53) == "outbound"
    assert pod.app.name_at_datagram(LOCAL_SERVER[family.name], 53) == "local"


def test_every_server_is_captured(pod, family, ask):
    capture_all(pod)
    assert ask(pod.app, family.outside) == "dns"
    assert ask(pod.app, family.other) == "dns"
    assert ask(pod.app, LOCAL_SERVER[family.name]) == "dns"


def test_only_the_servers_of_resolv_conf_are_captured(pod, family, ask):
    capture_named(pod, *(each.outside for each in FAMILIES))
    assert ask(pod.app, family.outside) == "dns"
    # Not DNS that is meant, so over TCP it is captured like everything else.
    assert ask(pod.app, family.other) == ("world" if ask.protocol == "udp" else "outbound")
    assert ask(pod.app, LOCAL_SERVER[family.name]) == "local"


def test_a_local_server_named_in_resolv_conf_is_captured(pod, family, ask):
    """127.0.0.53, as systemd-resolved has it: the application reaches the proxy, the proxy reaches the server."""
    capture_named(pod, *LOCAL_SERVER.values())
    assert ask(pod.app, LOCAL_SERVER[family.name]) == "dns"
    assert ask(pod.proxy, LOCAL_SERVER[family.name]) == "local"
    # And what the server itself asks goes out: it is not in resolv.conf.
    assert pod.user(RESOLVER_UID).name_at_datagram(family.outside, 53) == "world"


def test_a_local_server_can_be_left_alone_by_its_user(pod, family, ask):
    capture_all(pod, "--exclude-uids", RESOLVER_UID)
    assert ask(pod.app, family.outside) == "dns"
    assert ask(pod.user(RESOLVER_UID), family.outside) == "world"


def test_a_resolv_conf_without_servers_means_the_local_machine(pod, family, ask):
    done = pod.sluice(*APPLY, "--dns", "resolv-conf", resolv_conf="search example.org\n")
    assert "names no server" in done.stderr
    assert ask(pod.app, family.loopback) == "dns"


def test_the_proxy_asks_for_itself(pod, family, ask):
    capture_all(pod)
    assert ask(pod.proxy, family.outside) == "world"
    assert ask(pod.proxy, LOCAL_SERVER[family.name]) == "local"


def test_other_ports_are_not_dns(pod, family):
    capture_all(pod)
    assert pod.app.name_at_datagram(family.outside, 54) == "world"
    assert pod.app.name_at(family.outside, 54) == "outbound"


@pytest.mark.parametrize("option", ["exclude-outbound-ports", "exclude-interfaces", "exclude-gids"])
def test_what_is_excluded_before_dns_goes_direct(pod, family, ask, option):
    value = {"exclude-outbound-ports": "53", "exclude-interfaces": "eth+", "exclude-gids": pods.APP_UID}[option]
    capture_all(pod, f"--{option}", value)
    assert ask(pod.app, family.outside) == "world"


def test_dns_is_captured_even_where_its_server_is_excluded(pod, family, ask):
    """Step 7 comes before step 9: the name server is in an excluded range more often than not."""
    capture_all(pod, "--exclude-outbound-cidrs", "0.0.0.0/0,::/0")
    assert ask(pod.app, family.outside) == "dns"


def test_one_family_alone(pod, ask):
    four, six = FAMILIES
    capture_all(pod, "--ip-family", "ipv6")
    assert ask(pod.app, six.outside) == "dns"
    assert ask(pod.app, four.outside) == "world"


def test_another_port(pod, family, ask):
    capture_all(pod, "--dns-port", OTHER_DNS_PORT)
    assert ask(pod.app, family.outside) == "other"


def test_the_dns_port_dialled_from_outside_is_refused(pod, family):
    capture_all(pod)
    assert "Refused" in pod.world.name_at(family.pod, DNS_PORT)


# ------------------------------------------------------------------------------------------ the same port


def relaying(pod, server):
    """A DNS proxy that asks `server` from the port that the application is asking from at that moment."""
    pod.proxy.serve_datagrams("relay", RELAY_PORT, upstream=(server, 53))
    capture_all(pod, "--dns-port", RELAY_PORT)


@pytest.mark.parametrize("server", ["outside", "local"])
def test_the_proxy_asks_from_the_applications_port_at_the_same_time(sluice, family, server):
    """With one conntrack zone the proxy's query would meet the application's redirected entry and come back to it."""
    with dns_pod() as pod:
        host = LOCAL_SERVER[family.name] if server == "local" else family.outside
        relaying(pod, host)
        for _ in range(3):
            answer = pod.app.ask_datagram(host, 53, source_port=40000)
            assert (answer["name"], answer["upstream"]["name"]) == ("relay", "local" if server == "local" else "world")
            assert answer["peer"].endswith(":40000") and answer["upstream"]["peer"].endswith(":40000")


def test_one_after_the_other_from_the_same_port(pod, family):
    capture_all(pod)
    for _ in range(3):
        assert pod.app.name_at_datagram(family.outside, 53, source_port=40000) == "dns"
        assert pod.proxy.name_at_datagram(family.outside, 53, source_port=40000) == "world"


def test_queries_let_through_leave_no_half_open_entries(pod, family):
    """Only captured queries change zones; both directions of the others are in zone 0, so conntrack sees the answer."""
    capture_all(pod)
    assert pod.proxy.name_at_datagram(family.outside, 53, source_port=40001) == "world"
    listed = pods.run(["conntrack", "-L", "-f", family.name, "-p", "udp", "--sport", "40001"], pod.name).stdout
    assert family.outside in listed and "UNREPLIED" not in listed
