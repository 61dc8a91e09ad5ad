"""What the policy promises beyond the everyday case, one section for each: who, where from, which family, what else.

The proxy only answers (see pod.serve_mesh): "outbound" and "inbound" mean captured, "world" and "app" mean direct.
"""

import grp
import pwd
import re

import pytest

import pod as pods
from pod import APP_UID, APPLY, FAMILIES, INBOUND_PORT, IPV4, IPV6, OTHER_OUTBOUND_PORT, OUTBOUND_PORT, PROXY_UID
from pod import address

BACKENDS = {
    "nftables": ("--backend", "nftables"),
    "iptables-nft": ("--backend", "iptables", "--iptables-variant", "nft"),
    "iptables-legacy": ("--backend", "iptables", "--iptables-variant", "legacy"),
}
REFUSED = "ConnectionRefusedError: [Errno 111] Connection refused"
HAIRPIN = ("--hairpin", "inbound", "--passthrough-source", "127.0.0.6,::6")


# ------------------------------------------------------------------------- a pod that calls itself


def test_the_proxys_call_to_its_own_pod_goes_through_the_inbound_side(shared_mesh, family):
    shared_mesh.sluice(*APPLY, *HAIRPIN, "--tunnel-ports", "15008")
    proxy = shared_mesh.proxy
    answer = proxy.ask(family.pod, 5000)
    assert (answer.name, answer.original) == ("inbound", address(family.pod, 5000))
    assert proxy.name_at(family.pod, 15008) == "app"
    assert proxy.name_at(family.loopback, 5000) == "app"
    assert proxy.name_at(family.outside, 80) == "world"
    # What the inbound side sends on to the application, which would otherwise come back to it.
    answer = proxy.ask(family.pod, 5000, source=family.passthrough)
    assert (answer.name, answer.peer.startswith(address(family.passthrough, ""))) == ("app", True)


@pytest.mark.parametrize("options", [(), HAIRPIN], ids=["direct", "hairpin"])
def test_the_applications_call_to_its_own_pod_is_direct(shared_mesh, family, options):
    shared_mesh.sluice(*APPLY, *options)
    assert shared_mesh.app.name_at(family.pod, 5000) == "app"
    assert shared_mesh.app.name_at(family.loopback, 5000) == "app"


def test_a_call_to_ones_own_service_address_passes_both_sides(pod, family):
    """The proxy knows which pod serves the address: this one. So out of it, in again, and on to the application."""
    pod.app.serve("app", 5000)
    pod.proxy.serve("outbound", OUTBOUND_PORT, relay=True, onward={family.service: family.pod})
    pod.proxy.serve("inbound", INBOUND_PORT, relay=True, source=family.passthrough)
    pod.sluice(*APPLY, *HAIRPIN)
    answer = pod.app.ask(family.service, 5000)
    assert (answer.name, answer.via) == ("app", ["inbound", "outbound"])


def addresses_of_lo(pod):
    return pods.succeeded(pods.run(["ip", "-o", "address", "show", "dev", "lo"], pod.name)).stdout


def test_an_address_to_pass_through_is_lent_to_lo(pod):
    before = addresses_of_lo(pod)
    pod.sluice(*APPLY, *HAIRPIN)
    added = addresses_of_lo(pod)
    assert "::6/128" in added and "127.0.0.6" not in added
    pod.sluice(*APPLY, *HAIRPIN)
    assert addresses_of_lo(pod) == added
    pod.sluice(*APPLY)
    assert addresses_of_lo(pod) == before
    pod.sluice(*APPLY, *HAIRPIN)
    pod.sluice("cleanup")
    assert addresses_of_lo(pod) == before


def test_an_address_that_was_there_already_stays(pod):
    pod.ip("address add ::6/128 dev lo nodad")
    before = addresses_of_lo(pod)
    pod.sluice(*APPLY, *HAIRPIN)
    pod.sluice("cleanup")
    assert addresses_of_lo(pod) == before


def test_an_application_on_loopback_only(pod, family):
    pod.app.serve("app", 5000, hosts=[family.loopback])
    pod.proxy.serve("inbound", INBOUND_PORT, relay=True, onward={family.pod: family.loopback})
    pod.sluice(*APPLY)
    assert pod.app.name_at(family.loopback, 5000) == "app"
    answer = pod.world.ask(family.pod, 5000)
    assert (answer.name, answer.via) == ("app", ["inbound"])


def test_an_application_on_the_pods_address_only(pod, family):
    pod.app.serve("app", 5000, hosts=[family.pod])
    pod.proxy.serve("inbound", INBOUND_PORT, relay=True)
    pod.sluice(*APPLY)
    assert pod.app.name_at(family.pod, 5000) == "app"
    answer = pod.world.ask(family.pod, 5000)
    assert (answer.name, answer.via) == ("app", ["inbound"])


# ------------------------------------------------------------------------- who


def test_a_stolen_user_id_is_no_disguise_where_the_mark_identifies_the_proxy(shared_mesh, family):
    shared_mesh.sluice(*APPLY, "--proxy-uid=", "--proxy-mark", "0x539/0xfff")
    thief, real = shared_mesh.proxy, shared_mesh.user(PROXY_UID, net_admin=True)
    assert thief.name_at(family.outside, 80) == "outbound"
    assert "PermissionError" in thief.name_at(family.outside, 80, mark=0x539)
    assert real.name_at(family.outside, 80, mark=0x539) == "world"
    assert real.name_at(family.outside, 80, mark=0xF539) == "world"
    assert real.name_at(family.outside, 80, mark=0x538) == "outbound"


GAMES = pwd.getpwnam("games")
DIRECT = 3333  # a user and a group of which nothing else is known

OWNERS = {
    "proxy-uid-range": (("--proxy-uid", "1337,3330-3339"), DIRECT, DIRECT, "world"),
    "proxy-uid-name": (("--proxy-uid", "games"), GAMES.pw_uid, DIRECT, "world"),
    "proxy-gid": (("--proxy-gid", "3333"), APP_UID, DIRECT, "world"),
    "proxy-gid-name": (("--proxy-gid", "games"), APP_UID, grp.getgrnam("games").gr_gid, "world"),
    "exclude-uid-name": (("--exclude-uids", "games,nobody"), GAMES.pw_uid, DIRECT, "world"),
    "exclude-uid-range": (("--exclude-uids", "3000-3333"), DIRECT, DIRECT, "world"),
    "exclude-uid-beyond": (("--exclude-uids", "3000-3332,3334"), DIRECT, DIRECT, "outbound"),
    "exclude-gid": (("--exclude-gids", "games,3333"), APP_UID, DIRECT, "world"),
    "exclude-gid-is-no-uid": (("--exclude-gids", "2000"), APP_UID, DIRECT, "outbound"),
    "only-gid": (("--only-gids", "3333,4000-4010"), APP_UID, DIRECT, "outbound"),
    "only-other-gids": (("--only-gids", "3332,3334"), APP_UID, DIRECT, "world"),
    "port-for-uid": (("--exclude-outbound-ports-for-uids", "tcp:79-80:3000-4000"), DIRECT, APP_UID, "world"),
    "port-for-other-uid": (("--exclude-outbound-ports-for-uids", "80:3334"), DIRECT, APP_UID, "outbound"),
    "other-port-for-uid": (("--exclude-outbound-ports-for-uids", "443:3333"), DIRECT, APP_UID, "outbound"),
    "other-protocol-for-uid": (("--exclude-outbound-ports-for-uids", "udp:80:3333"), DIRECT, APP_UID, "outbound"),
}


@pytest.mark.parametrize("options, uid, gid, expected", OWNERS.values(), ids=OWNERS.keys())
def test_owners(shared_mesh, family, options, uid, gid, expected):
    shared_mesh.sluice(*APPLY, *options)
    assert shared_mesh.user(uid, gid).name_at(family.outside, 80) == expected


ASK = """import json, socket, sys
with socket.create_connection((sys.argv[1], 80), timeout=10) as connection:
    print(json.loads(connection.makefile().readline())["name"])"""


def test_a_supplementary_group_is_no_group_of_the_proxy(shared_mesh, family):
    """The kernel knows a socket by its maker's first group alone."""
    shared_mesh.sluice(*APPLY, "--proxy-gid", DIRECT)
    for gid, groups, expected in ((APP_UID, DIRECT, "outbound"), (DIRECT, APP_UID, "world")):
        as_user = ["setpriv", "--reuid", str(APP_UID), "--regid", str(gid), "--groups", str(groups), "/usr/bin/python3"]
        asked = pods.succeeded(pods.run([*as_user, "-c", ASK, family.outside], shared_mesh.name))
        assert asked.stdout == expected + "\n"


def test_ports_for_users_are_a_list_of_rules(shared_mesh, family):
    shared_mesh.sluice(
        *APPLY, "--exclude-outbound-ports-for-uids", "80:3333", "--exclude-outbound-ports-for-uids", "443:2000"
    )
    expected = {(DIRECT, 80): "world", (DIRECT, 443): "outbound", (APP_UID, 80): "outbound", (APP_UID, 443): "world"}
    assert {key: shared_mesh.user(key[0]).name_at(family.outside, key[1]) for key in expected} == expected


@pytest.mark.parametrize("uid", [1338, 70_000, 4_294_967_294])
def test_every_user_of_the_proxys_is_the_proxy_in_all_ways(shared_mesh, family, uid):
    """The second as well as the first, and also where its number has more than 16 bits."""
    shared_mesh.sluice(*APPLY, *HAIRPIN, "--proxy-uid", f"{PROXY_UID},{uid}")
    for proxy in (shared_mesh.proxy, shared_mesh.user(uid)):
        assert proxy.name_at(family.outside, 80) == "world"
        assert proxy.name_at(family.pod, 5000) == "inbound"
        assert proxy.name_at(family.loopback, 5000) == "app"


@pytest.mark.parametrize("backend", BACKENDS.values(), ids=BACKENDS.keys())
def test_many_ports_for_a_user_with_a_large_number(shared_mesh, backend):
    """More ports than one rule of iptables holds."""
    ports = ",".join(map(str, [*range(1, 60, 2), 80]))
    shared_mesh.sluice(*APPLY, *backend, "--exclude-outbound-ports-for-uids", f"tcp:{ports}:70000-4000000000")
    for family in FAMILIES:
        assert shared_mesh.user(70_000).name_at(family.outside, 80) == "world"
        assert shared_mesh.user(70_000).name_at(family.outside, 443) == "outbound"
        assert shared_mesh.user(69_999).name_at(family.outside, 80) == "outbound"


# ------------------------------------------------------------------------- from where


def test_an_exclusion_holds_also_where_ports_are_listed(shared_mesh, family):
    shared_mesh.sluice(*APPLY, "--inbound-ports", "5000-5002", "--exclude-inbound-ports", "5001")
    found = [shared_mesh.world.name_at(family.pod, port) for port in (5000, 5001, 5002, 15008)]
    assert found == ["inbound", "app", "inbound", "app"]


@pytest.mark.parametrize("excluded, other", [FAMILIES, FAMILIES[::-1]], ids=["ipv4", "ipv6"])
def test_a_family_can_be_excluded_whole_and_the_other_is_not(shared_mesh, excluded, other):
    everything = {"ipv4": "0.0.0.0/0", "ipv6": "::/0"}[excluded.name]
    done = shared_mesh.sluice(*APPLY, "--exclude-outbound-cidrs", everything)
    assert f"{everything} leaves no {excluded.name}" in done.stderr
    assert shared_mesh.app.name_at(excluded.outside, 80) == "world"
    assert shared_mesh.app.name_at(other.outside, 80) == "outbound"


def test_excluded_sources_go_direct(shared_mesh, family):
    shared_mesh.sluice(*APPLY, "--exclude-inbound-cidrs", "203.0.113.0/24,2001:db8:ff::/48")
    assert shared_mesh.world.name_at(family.pod, 5000, source=family.other) == "app"
    assert shared_mesh.world.name_at(family.pod, 5000, source=family.outside) == "inbound"


def test_inbound_can_be_off(shared_mesh, family):
    shared_mesh.sluice("apply", "--inbound-mode", "off")
    assert shared_mesh.world.name_at(family.pod, 5000) == "app"
    assert shared_mesh.app.name_at(family.outside, 80) == "outbound"


def test_tunnel_ports_are_a_list_with_ranges(shared_mesh, family):
    shared_mesh.sluice(*APPLY, "--tunnel-ports", "5001,15008-15009")
    assert [shared_mesh.world.name_at(family.pod, port) for port in (5000, 5001, 15008)] == ["inbound", "app", "app"]


@pytest.mark.parametrize(
    "options, inbound", [(APPLY, REFUSED), (("--inbound-mode", "off"), "inbound")], ids=["on", "off"]
)
def test_the_proxys_own_ports_are_refused_from_outside(shared_mesh, family, options, inbound):
    shared_mesh.sluice(*options)
    assert shared_mesh.world.name_at(family.pod, OUTBOUND_PORT) == REFUSED
    assert shared_mesh.world.name_at(family.pod, INBOUND_PORT) == inbound
    # From inside it is the application's own affair.
    assert shared_mesh.app.name_at(family.pod, OUTBOUND_PORT) == "outbound"


def test_the_port_of_another_hosts_proxy_is_one_hop(pod, family):
    """A proxy that finds its own port as the destination must not call itself."""
    pod.world.serve("world", OUTBOUND_PORT)
    pod.proxy.serve("outbound", OUTBOUND_PORT, relay=True)
    pod.sluice(*APPLY)
    answer = pod.app.ask(family.outside, OUTBOUND_PORT)
    assert (answer.name, answer.via) == ("world", ["outbound"])
    assert len(pod.proxy.accepted()) == 1


def test_the_proxys_own_ports_can_be_captured_like_any(shared_mesh, family):
    shared_mesh.sluice(*APPLY, "--proxy-port-access", "capture")
    for port in (OUTBOUND_PORT, INBOUND_PORT):
        answer = shared_mesh.world.ask(family.pod, port)
        assert answer.name == "inbound"
        # Unchanged by the redirect if it was the inbound port already.
        assert answer.original == address(family.pod, port)


@pytest.mark.parametrize("pattern", ["net1", "net+", "net*"])
def test_an_interface_that_comes_after_the_rules(mesh, pattern):
    mesh.sluice(*APPLY, "--exclude-interfaces", pattern)
    mesh.add_link("net1", 11)
    mesh.add_link("other1", 12)
    for host, own, out, into in (
        ("10.11.0.1", "10.11.0.2", "world", "app"),
        ("fd00:11::1", "fd00:11::2", "world", "app"),
        ("10.12.0.1", "10.12.0.2", "outbound", "inbound"),
        ("fd00:12::1", "fd00:12::2", "outbound", "inbound"),
    ):
        assert (mesh.app.name_at(host, 80), mesh.world.name_at(own, 5000)) == (out, into), host


def test_what_arrives_on_a_virtual_interface_is_outbound(mesh, family):
    mesh.sluice(
        *APPLY, "--virtual-interfaces", "vm*,tap0", "--exclude-outbound-cidrs", "203.0.113.0/24,2001:db8:ff::/48",
        "--outbound-cidrs", "198.18.0.0/15,203.0.113.0/24,2001:db8::/32", "--outbound-ports", "443",
    )  # fmt: skip
    guest = mesh.add_guest("vm1", 11)
    answer = guest.ask(family.outside, 80)
    assert (answer.name, answer.original) == ("outbound", address(family.outside, 80))
    assert guest.name_at(family.other, 443) == "world"
    assert guest.name_at(family.world, 80) == "world"
    assert guest.name_at(family.world, 443) == "outbound"


@pytest.mark.parametrize("forwarded, expected", [("pass", "world"), ("capture", "inbound")])
def test_what_is_only_forwarded(mesh, family, forwarded, expected):
    mesh.sluice(*APPLY, "--forwarded", forwarded)
    guest = mesh.add_guest("br1", 11)
    assert guest.name_at(family.outside, 80) == expected
    # To the pod itself it is a connection from outside, either way.
    assert guest.name_at(family.pod, 5000) == "inbound"


# ------------------------------------------------------------------------- one family


def test_a_pod_with_ipv6_only(mesh):
    mesh.ip(f"address del {IPV4.pod}/24 dev eth0")
    assert "inet 10" not in pods.run(["ip", "address"], mesh.name).stdout
    mesh.sluice(*APPLY, *HAIRPIN)
    assert mesh.app.name_at(IPV6.outside, 80) == "outbound"
    assert mesh.world.name_at(IPV6.pod, 5000) == "inbound"
    assert mesh.proxy.name_at(IPV6.outside, 80) == "world"


@pytest.mark.parametrize(
    "options, left_out",
    [((), ""), (("--dns", "all"), ""), (HAIRPIN, "address add ::6"), (("--inbound-mode", "tproxy"), "route add")],
    ids=["plain", "dns", "hairpin", "tproxy"],
)
def test_a_pod_with_ipv6_disabled(pod, options, left_out):
    pod.world.serve("world", 80)
    pod.proxy.serve("outbound", OUTBOUND_PORT, hosts=["0.0.0.0"])
    pod.sysctl("net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
    before = pod.state()
    said = pod.sluice(*APPLY, *options).stderr
    assert left_out in said and ("IPv6 is disabled" in said) == bool(left_out)
    assert pod.app.name_at(IPV4.outside, 80) == "outbound"
    assert "unchanged" in pod.sluice(*APPLY, *options).stdout
    pod.sluice("cleanup")
    assert pod.state() == before


@pytest.mark.parametrize("captured, other", [FAMILIES, FAMILIES[::-1]], ids=["ipv4", "ipv6"])
def test_the_other_family_can_be_refused(mesh, captured, other):
    running, _ = mesh.app.hold(other.outside, 443)
    mesh.world.serve_datagrams("world", 80)
    mesh.sluice(*APPLY, "--ip-family", captured.name, "--other-family", "reject")
    assert mesh.app.name_at(captured.outside, 80) == "outbound"
    assert mesh.app.name_at_datagram(captured.outside, 80) == "world"
    assert mesh.app.name_at(other.outside, 80) == REFUSED
    assert mesh.app.name_at_datagram(other.outside, 80) == REFUSED
    # Only the application's, only what leaves, and only what is new.
    assert mesh.proxy.name_at(other.outside, 80) == "world"
    assert mesh.app.name_at(other.loopback, 5000) == "app"
    assert mesh.world.name_at(other.pod, 5000) == "app"
    assert mesh.app.echo_on(running, "still there") == "still there"
    # Neighbours are found anew and errors and echoes get through.
    mesh.ip("neighbour flush dev eth0")
    assert mesh.root.ping(other.outside)
    assert mesh.world.ping(other.pod)


@pytest.mark.parametrize("captured, other", [FAMILIES, FAMILIES[::-1]], ids=["ipv4", "ipv6"])
def test_the_other_family_passes_with_a_warning(shared_mesh, captured, other):
    done = shared_mesh.sluice(*APPLY, "--ip-family", captured.name, "--other-family", "pass")
    assert "warning" in done.stderr and "--other-family reject" in done.stderr
    assert shared_mesh.app.name_at(captured.outside, 80) == "outbound"
    assert shared_mesh.app.name_at(other.outside, 80) == "world"
    assert shared_mesh.world.name_at(other.pod, 5000) == "app"


def test_there_is_no_warning_where_the_other_family_has_no_way_out(pod):
    pod.ip(f"address del {IPV6.pod}/64 dev eth0", "address add fe80::2/64 dev eth0 nodad")
    assert pod.sluice(*APPLY, "--ip-family", "ipv4").stderr == ""


# ------------------------------------------------------------------------- UDP and the rest


def test_quic_is_refused_so_that_the_client_turns_to_tcp(mesh, family):
    for port in (442, 443):
        mesh.world.serve_datagrams("world", port)
    mesh.sluice(*APPLY, "--udp", "reject:443", "--exclude-outbound-cidrs", "203.0.113.0/24,2001:db8:ff::/48")
    assert mesh.app.name_at_datagram(family.outside, 443) == REFUSED
    assert mesh.app.name_at(family.outside, 443) == "outbound"
    assert mesh.app.name_at_datagram(family.outside, 442) == "world"
    assert mesh.proxy.name_at_datagram(family.outside, 443) == "world"
    assert mesh.app.name_at_datagram(family.other, 443) == "world"


@pytest.mark.parametrize("protocol", [132, 253], ids=["sctp", "unknown"])
def test_other_protocols_are_left_alone(shared_mesh, family, protocol):
    shared_mesh.sluice(*APPLY, "--udp", "reject:443", "--dns", "all", "--drop-invalid", *HAIRPIN)
    for sender, receiver, host, source in (
        (shared_mesh.root, shared_mesh.world, family.outside, family.pod),
        (shared_mesh.world, shared_mesh.root, family.pod, family.world),
    ):
        receiver.hear_protocol(protocol, host)
        sender.send_protocol(protocol, host)
        assert receiver.heard_protocol(protocol) == source


@pytest.mark.parametrize("mode", ["redirect", "tproxy"])
def test_pings_are_left_alone(shared_mesh, family, mode):
    shared_mesh.sluice(*APPLY, "--inbound-mode", mode, "--udp", "reject:1-65535", "--drop-invalid")
    assert shared_mesh.root.ping(family.outside)
    assert shared_mesh.root.ping(family.pod)
    assert shared_mesh.world.ping(family.pod)


def survives_a_stray_segment(mesh, family):
    held, answer = mesh.world.hold(family.pod, 5000)
    assert answer.name == "inbound"
    mesh.world.send_stray_segment(held)
    try:
        return all(mesh.world.echo_on(held, "still there") == "still there" for _ in range(3))
    except pods.NoAnswer as reason:
        assert "Reset" in str(reason)
        return False


def test_a_segment_outside_the_window_ends_a_connection_unless_dropped(shared_mesh, family):
    """Conntrack does not translate it back, so it meets the application's listener instead of the proxy's socket."""
    shared_mesh.sluice(*APPLY)
    assert not survives_a_stray_segment(shared_mesh, family)
    shared_mesh.sluice(*APPLY, "--drop-invalid")
    assert survives_a_stray_segment(shared_mesh, family)


def closing_in(pod):
    """The source ports of connections in state CLOSE_WAIT."""
    listed = pods.run(["conntrack", "-L", "-p", "tcp", "--state", "CLOSE_WAIT"], pod.name).stdout
    return {re.search(r" sport=(\d+)", line).group(1) for line in listed.splitlines()}


def test_an_answer_after_the_caller_said_all_needs_the_close_wait_timeout(pod):
    """Conntrack forgets a connection that is closed in one direction, and with it where the answer belongs."""
    pod.proxy.serve("outbound", OUTBOUND_PORT, late=2)
    held, closing = {}, set()
    for seconds in (1, 3600):
        pod.sluice(*APPLY, "--close-wait-timeout", seconds)
        held[seconds], _ = pod.app.hold(IPV4.outside, 80)
        pod.app.say_no_more_on(held[seconds])
        # The timeout counts at the moment when the end has been acknowledged, which may take until the next one is set.
        closing |= pods.wait_until(lambda: closing_in(pod) - closing, "a connection closed in one direction")
    assert pod.app.hear_on(held[3600]) == "at last"
    # What was to be heard here was said before.
    with pytest.raises(pods.NoAnswer):
        pod.app.hear_on(held[1], patience=0.3)


# ------------------------------------------------------------------------- many into one port


@pytest.mark.parametrize("direction", ["outbound", "inbound"])
def test_connections_from_one_port_keep_their_destinations(shared_mesh, family, direction):
    """Translated, they would all be the same pair of ends; conntrack gives each another source port."""
    shared_mesh.sluice(*APPLY)
    process, hosts, ports = {
        "outbound": (shared_mesh.app, (family.outside, family.other), (80, 443)),
        "inbound": (shared_mesh.world, (family.pod,), (5000, 5001, 5002, 5003)),
    }[direction]
    targets = [(host, port) for host in hosts for port in ports]
    # Below those that the kernel gives to others.
    source_ports = range(20_000, 20_050)
    answers = process.ask_from_same_port(targets, list(source_ports))
    assert {answer.name for answer in answers} == {direction}
    assert [answer.original for answer in answers] == [pods.address(*target) for target in targets] * len(source_ports)
    assert len({answer.peer for answer in answers}) == len(answers)


@pytest.mark.parametrize("direction", ["outbound", "inbound"])
def test_a_port_is_used_again_after_conntrack_forgot_its_connection(shared_mesh, family, direction):
    """The proxy's socket is still there, under the very ends that the new connection gets."""
    shared_mesh.sluice(*APPLY)
    process, first, second, port = {
        "outbound": (shared_mesh.app, (family.outside, 80), (family.other, 443), 20_100),
        "inbound": (shared_mesh.world, (family.pod, 5000), (family.pod, 5001), 20_101),
    }[direction]
    _, answer = process.hold(*first, source_port=port)
    assert answer.original == pods.address(*first)
    forgotten = pods.run(["conntrack", "-D", "-f", family.name, "-p", "tcp", "--sport", str(port)], shared_mesh.name)
    assert "1 flow entries have been deleted" in forgotten.stderr
    answer = process.ask(*second, source_port=port)
    assert (answer.name, answer.original) == (direction, pods.address(*second))


# ------------------------------------------------------------------------- what is running goes on

STEPS = {
    "again": [APPLY],
    "replaced": [("apply", "--proxy-port", OTHER_OUTBOUND_PORT, "--exclude-inbound-ports", "5000")],
    "stricter": [(*APPLY, "--drop-invalid", "--udp", "reject:1-65535", "--dns", "all")],
    "one-family": [(*APPLY, "--ip-family", only, "--other-family", "reject") for only in ("ipv4", "ipv6")],
    "tproxy": [(*APPLY, "--inbound-mode", "tproxy"), APPLY],
    "istio": [("apply", "--preset", "istio")],
    "inbound-off": [("apply", "--inbound-mode", "off")],
}


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS.keys())
def test_running_connections_go_on(shared_mesh, steps):
    """In both directions and families, those made before the rules as well as captured ones."""
    mesh, held = shared_mesh, []

    def hold(out, into):
        for family in FAMILIES:
            hold_one(mesh.app, family.outside, 80, out)
            hold_one(mesh.world, family.pod, 5000, into)

    def hold_one(process, host, port, name):
        id, answer = process.hold(host, port)
        assert answer.name == name
        held.append((process, id))

    def check():
        for process, id in held:
            assert process.echo_on(id, "still there") == "still there"

    hold("world", "app")
    mesh.sluice(*APPLY)
    check()
    hold("outbound", "inbound")
    for step in steps:
        mesh.sluice(*step)
        check()


def test_what_was_never_captured_goes_on_after_cleanup(shared_mesh, family):
    mesh = shared_mesh
    out, _ = mesh.app.hold(family.outside, 80)
    into, _ = mesh.world.hold(family.pod, 5000)
    for step in (APPLY, ("cleanup",), APPLY):
        mesh.sluice(*step)
        assert mesh.app.echo_on(out, "still there") == "still there"
        assert mesh.world.echo_on(into, "still there") == "still there"
