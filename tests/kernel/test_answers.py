"""The commands that answer: explain, verify, status, doctor.

What they say is held against what the kernel does, or against what was done to it behind sluice's back.
"""

import json
import pathlib

import pytest

from pod import (
    APP_UID, FAMILIES, INBOUND_PORT, IPV4, IPV6, OUTBOUND_PORT, PROXY_UID, address, run, sluice_binary, wait_until,
)  # fmt: skip

APPLY = ("apply", "--inbound-port", str(INBOUND_PORT))
MESH = APPLY[1:]


@pytest.fixture
def mesh(pod):
    """A pod with an application and an answering proxy in it, and servers outside."""
    pod.world.serve("world", 80, 443)
    pod.app.serve("app", 5000, 5001)
    pod.proxy.serve("outbound", OUTBOUND_PORT)
    pod.proxy.serve("inbound", INBOUND_PORT)
    return pod


def answer(pod, *arguments, code=0):
    """The JSON that a command prints; it must end with this exit status."""
    result = pod.sluice(*arguments, "--format", "json", check=False)
    assert result.returncode == code, result.stdout + result.stderr
    return json.loads(result.stdout)


# -------------------------------------------------------------------------------------------------- explain


def explained(pod, *arguments):
    said = answer(pod, "explain", *arguments)
    return said["verdict"], said["port"], said["rule"]


LISTENERS = {OUTBOUND_PORT: "outbound", INBOUND_PORT: "inbound"}

CASES = {
    "defaults": (),
    "ports": ("--exclude-outbound-ports", "443", "--exclude-inbound-ports", "5001"),
    "cidrs": ("--exclude-outbound-cidrs", "203.0.113.0/24,2001:db8:ff::/48"),
    "owners": ("--exclude-uids", str(APP_UID)),
    "istio": ("--preset", "istio"),
    "one-family": ("--ip-family", "ipv4"),
}  # fmt: skip


@pytest.mark.parametrize("options", CASES.values(), ids=CASES.keys())
def test_explain_says_where_each_connection_really_goes(mesh, family, options):
    mesh.sluice(*APPLY, *options)
    for uid in (APP_UID, PROXY_UID):
        for host in (family.outside, family.other):
            for port in (80, 443):
                question = ("--uid", uid, "--gid", uid, "--dst", address(host, port))
                by_options = explained(mesh, *MESH, *options, *question)
                assert explained(mesh, "--live", *question) == by_options
                expected = LISTENERS.get(by_options[1], "world")
                assert mesh.user(uid).name_at(host, port) == expected, (by_options, question)
    for port in (5000, 5001, OUTBOUND_PORT):
        question = ("--direction", "inbound", "--dst", address(family.pod, port), "--src", family.world)
        by_options = explained(mesh, *MESH, *options, *question)
        assert explained(mesh, "--live", *question) == by_options
        found = mesh.world.name_at(family.pod, port)
        if by_options[0] == "reject":
            assert "Connection refused" in found
        else:
            expected = LISTENERS.get(by_options[1]) or ("outbound" if port == OUTBOUND_PORT else "app")
            assert found == expected, (by_options, question)


def test_explain_needs_no_privilege_and_shows_every_field(pod):
    said = answer(pod, "explain", "--uid", "7", "--dst", "10.96.0.1:443")
    assert list(said)[:6] == ["direction", "verdict", "port", "rule", "steps", "connection"]
    assert {"rule", "matched", "reason"} <= set(said["steps"][0])
    connection = said["connection"]
    assert (connection["uid"], connection["destination"], connection["destination_port"]) == (7, "10.96.0.1", 443)
    assert "uid" not in connection["assumed"] and "gid" in connection["assumed"]
    assert any("of user 1337, but 7" in step["reason"] for step in said["steps"])


def test_explain_refuses_what_has_no_meaning(pod):
    for arguments in (
        ("apply", "--dst", "192.0.2.1:80"),
        ("explain", "--direction", "inbound", "--uid", "5"),
        ("explain", "--src", "::1", "--dst", "192.0.2.1:80"),
        ("explain", "--dst", "192.0.2.1:0"),
        ("explain", "--interface", "eth0/1"),
    ):
        result = pod.sluice(*arguments, check=False)
        assert result.returncode == 2, arguments
        assert "allowed" in result.stderr


def test_another_tools_redirect_in_front_is_the_one_that_decides(mesh):
    mesh.sluice(*APPLY)
    mesh.nft(
        "-f", "-",
        stdin="table ip other { chain out { type nat hook output priority -110; tcp dport 443 redirect to :15006; }; }",
    )  # fmt: skip
    verdict = answer(mesh, "explain", "--live", "--dst", address(IPV4.outside, 443))
    assert (verdict["verdict"], verdict["port"]) == ("redirect", INBOUND_PORT)
    assert verdict["steps"][0]["chain"] == "ip other out"
    assert mesh.app.name_at(IPV4.outside, 443) == "inbound"
    assert explained(mesh, "--live", "--dst", address(IPV4.outside, 80))[:2] == ("redirect", OUTBOUND_PORT)


@pytest.mark.parametrize("priority, sees", [(-103, 80), (-103, OUTBOUND_PORT), (-99, 80), (-99, OUTBOUND_PORT)])
def test_what_a_chain_near_ours_sees_is_what_explain_says(mesh, family, priority, sees):
    """NAT chains run at -100 whatever their priority is, so a filter at -103 comes before ours at -105."""
    mesh.sluice(*APPLY)
    mesh.nft(
        "-f", "-",
        stdin="table inet other { chain out { type filter hook output priority %d; tcp dport %d reject with tcp reset; }; }"
        % (priority, sees),
    )  # fmt: skip
    refused = (priority == -103) == (sees == 80)
    assert explained(mesh, "--live", "--dst", address(family.outside, 80))[0] == ("reject" if refused else "redirect")
    found = mesh.app.name_at(family.outside, 80)
    assert ("refused" in found) if refused else (found == "outbound")


def test_a_rule_that_cannot_be_read_is_told_and_not_guessed_at(mesh):
    mesh.sluice(*APPLY)
    mesh.nft("insert", "rule", "inet", "sluice", "outbound", "tcp", "dport", "443", "quota", "10", "mbytes", "drop")
    said = answer(mesh, "explain", "--live", "--dst", address(IPV4.outside, 443))
    assert (said["verdict"], said["rule"], said["certain"]) == (None, None, False)
    assert said["steps"][0]["matched"] is None
    assert said["otherwise"] == {"verdict": "redirect", "port": OUTBOUND_PORT, "rule": "outbound"}
    assert mesh.sluice("explain", "--live").stdout.startswith("unknown, because")
    # A jump that is only for others changes nothing for this connection.
    mesh.sluice(*APPLY)
    mesh.nft(
        "-f", "-",
        stdin="table ip docker { chain x { }; chain out { type nat hook output priority -110; ip daddr 127.0.0.11 jump x; }; }",
    )  # fmt: skip
    assert explained(mesh, "--live", "--dst", address(IPV4.outside, 443))[0] == "redirect"
    assert answer(mesh, "explain", "--live", "--dst", "127.0.0.11:53")["certain"] is False


# --------------------------------------------------------------------------------------------------- verify


def test_verify_finds_nothing_after_apply_whatever_was_counted(mesh):
    for options in ((), ("--preset", "istio"), ("--inbound-mode", "tproxy"), ("--dns", "all", "--udp", "reject:443")):
        mesh.sluice(*APPLY, *options)
        mesh.app.name_at(IPV4.outside, 80)
        generation = mesh.generation()
        said = answer(mesh, "verify", *MESH, *options)
        assert said == {"match": True, "drift": [], "probe": [], "warnings": []}
        assert mesh.generation() == generation


LOADED = {
    "defaults": (),
    "istio": ("--preset", "istio"),
    "networks": (
        "--outbound-cidrs", "10.0.0.0/8", "--exclude-outbound-cidrs", "fd00::/8", "--exclude-inbound-cidrs", "10.9.0.0/22",
    ),
    "tproxy": ("--inbound-mode", "tproxy"),
    "dns": ("--dns", "all", "--udp", "reject:443", "--drop-invalid"),
    "owners": ("--exclude-uids", "100-200,300", "--only-gids", "7", "--proxy-mark", "0x539/0xfff"),
    "nested": ("--virtual-interfaces", "vm0,tap*", "--exclude-interfaces", "net1", "--ip-family", "ipv4"),
}  # fmt: skip


@pytest.mark.parametrize("options", LOADED.values(), ids=LOADED.keys())
def test_a_plan_that_nft_loaded_is_no_drift(pod, options):
    pod.sluice(*APPLY, *options)
    pod.nft("-f", "-", stdin="delete table inet sluice\n" + pod.sluice("plan", *MESH, *options).stdout)
    assert answer(pod, "verify", *MESH, *options)["drift"] == []
    assert answer(pod, "status")["exact"] is True


def nft(*words):
    return lambda pod: pod.nft(*words)


def delete_rule(chain, name):
    def change(pod):
        listed = json.loads(pod.nft("-j", "list", "chain", "inet", "sluice", chain).stdout)["nftables"]
        rule = next(item["rule"] for item in listed if item.get("rule", {}).get("comment") == name)
        pod.nft("delete", "rule", "inet", "sluice", chain, "handle", str(rule["handle"]))

    return change


def move_rule_to_front(chain, name, text):
    def change(pod):
        delete_rule(chain, name)(pod)
        pod.nft("insert", "rule", "inet", "sluice", chain, *text.split(), "comment", f'"{name}"')

    return change


def unhook(pod):
    """The same rules in a chain that nobody asks."""
    listed = pod.listing().replace("type nat hook output priority -105; policy accept;", "")
    pod.nft("-f", "-", stdin="delete table inet sluice\n" + listed)


def shadow(pod):
    pod.nft(
        "-f", "-",
        stdin="table ip other { chain out { type nat hook output priority -110; tcp dport 443 redirect to :1; }; }",
    )  # fmt: skip


def remove_route(pod):
    pod.ip("rule delete fwmark 1337")


DRIFT = {
    "a rule gone": (delete_rule("outbound", "proxy"), "missing", "outbound", "proxy"),
    "a rule added": (
        nft("insert", "rule", "inet", "sluice", "outbound", "tcp", "dport", "25", "accept", "comment", '"mine"'),
        "unexpected", "outbound", "mine",
    ),
    "a rule nobody can read": (
        nft("add", "rule", "inet", "sluice", "inbound", "tcp", "dport", "25", "limit", "rate", "1/second", "accept"),
        "unexpected", "inbound", "",
    ),
    "order": (
        move_rule_to_front("outbound", "outbound", "meta l4proto tcp counter redirect to :15001"),
        "unexpected", "outbound", "outbound",
    ),
    "a set element gone": (
        nft("delete", "element", "inet", "sluice", "exclude_outbound_ports", "{ 22 }"), "changed", "", "",
    ),
    "another set element": (
        nft("delete element inet sluice exclude_outbound_ports { 22 }; add element inet sluice exclude_outbound_ports { 26 }"),
        "changed", "", "",
    ),
    "a policy": (
        nft("chain", "inet", "sluice", "inbound_guard", "{ policy drop; }"), "changed", "inbound_guard", "",
    ),
    "an unhooked chain": (unhook, "changed", "outbound", ""),
    "a chain added": (nft("add", "chain", "inet", "sluice", "mine"), "unexpected", "mine", ""),
    "a dormant table": (nft("add", "table", "inet", "sluice", "{ flags dormant; }"), "changed", "", ""),
    "everything gone": (nft("delete", "table", "inet", "sluice"), "missing", "", ""),
    "a routing rule gone": (remove_route, "missing", "", ""),
    "another tool's rule in front": (shadow, "shadowed", "out", "rule 1"),
}  # fmt: skip


@pytest.mark.parametrize("change, kind, chain, rule", DRIFT.values(), ids=DRIFT.keys())
def test_verify_tells_every_kind_of_drift_by_rule(pod, change, kind, chain, rule):
    options = ("--inbound-port", str(INBOUND_PORT), "--exclude-outbound-ports", "22,25")
    if change is remove_route:
        options = ("--inbound-mode", "tproxy")
    pod.sluice("apply", *options)
    assert answer(pod, "verify", *options)["match"] is True
    change(pod)
    said = answer(pod, "verify", *options, code=3)
    assert said["match"] is False
    assert (kind, chain, rule) in {(each["kind"], each["chain"], each["rule"]) for each in said["drift"]}, said
    assert all(list(each) == ["rule", "table", "chain", "kind", "expected", "found"] for each in said["drift"])
    text = pod.sluice("verify", *options, check=False)
    assert text.returncode == 3 and "difference" in text.stdout
    if kind != "shadowed":
        pod.sluice("apply", *options)
        assert answer(pod, "verify", *options)["match"] is True


def test_a_rule_of_others_that_may_shadow_ours_is_a_warning(pod):
    pod.sluice(*APPLY)
    pod.nft("-f", "-", stdin="table ip o { chain x { }; chain out { type nat hook output priority -110; jump x; }; }")
    said = answer(pod, "verify", *MESH)
    assert said["match"] is True and "ip o out" in said["warnings"][0]


def test_probe_tries_every_way_and_disturbs_nothing(mesh):
    for options in ((), ("--preset", "istio"), ("--inbound-mode", "tproxy"), ("--exclude-outbound-cidrs", "10.0.0.0/8,fd00::/8")):
        mesh.sluice(*APPLY, *options)
        held, _ = mesh.app.hold(IPV4.outside, 80)
        accepted = [len(user.accepted()) for user in (mesh.app, mesh.proxy, mesh.world)]
        links, generation = mesh.world.accepted(), mesh.generation()
        said = answer(mesh, "verify", *MESH, *options, "--probe", "--probe-timeout", "30s")
        assert said["match"] is True, said
        assert {each["ok"] for each in said["probe"]} == {True}
        for family in FAMILIES:
            mine = [each["expected"].split()[0] for each in said["probe"] if each["family"] == str(family)]
            assert {"redirect", "pass", "reject"} <= set(mine)
        # A proxy is running on these ports all the while, and sees nothing of it; neither does anybody outside.
        assert [len(user.accepted()) for user in (mesh.app, mesh.proxy, mesh.world)] == accepted
        assert mesh.world.accepted() == links and mesh.generation() == generation
        assert mesh.app.echo_on(held, "still there") == "still there"


def test_probe_finds_connections_that_land_elsewhere(pod):
    pod.sluice(*APPLY)
    pod.nft("insert", "rule", "inet", "sluice", "outbound", "tcp", "dport", "80", "counter", "accept")
    said = answer(pod, "verify", *MESH, "--probe", "--probe-timeout", "30s", code=3)
    wrong = [each for each in said["probe"] if each["ok"] is False]
    assert [each["connection"] for each in wrong] == ["outbound, an application"] * 2
    assert all("left the pod" in each["found"] for each in wrong)


def test_probe_does_without_root_where_user_namespaces_are_allowed(pod):
    pod.sluice(*APPLY)
    arguments = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps", "+net_admin"]
    arguments += ["--ambient-caps", "+net_admin", sluice_binary(), "verify", *MESH, "--probe", "--probe-timeout", "30s"]
    result = run(arguments, pod.name)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "ok   outbound, an application" in result.stdout


def test_a_probe_that_cannot_be_made_is_no_success(pod):
    pod.sluice(*APPLY)
    result = pod.sluice("verify", *MESH, "--probe", "--probe-timeout", "1ms", check=False)
    assert result.returncode == 4, result.stdout + result.stderr
    assert "not every connection could be tried" in result.stderr


# --------------------------------------------------------------------------------------------------- status


def counted(said, rule, chain="outbound"):
    return sum(each["packets"] for each in said["rules"] if (each["rule"], each["chain"]) == (rule, chain))


def test_status_tells_what_is_programmed_from_the_kernel_alone(mesh):
    options = ("--exclude-outbound-ports", "443", "--hairpin", "inbound", "--passthrough-source", "127.0.0.6,::6")
    mesh.sluice(*APPLY, *options)
    for _ in range(3):
        mesh.app.ask(IPV4.outside, 80)
    mesh.app.ask(IPV4.outside, 443)
    said = answer(mesh, "status")
    assert list(said)[:4] == ["backend", "version", "applied_at", "configuration"]
    assert said["backend"] == "nftables" and said["version"] in mesh.sluice("--version").stdout
    assert said["applied_at"].startswith("20") and said["applied_at"].endswith("Z")
    assert said["exact"] is True and said["warnings"] == []
    assert said["namespace"] == ["ip -6 address add ::6/128 dev lo"]
    assert said["configuration"] == {
        "exclude-outbound-ports": "443", "hairpin": "inbound", "inbound-port": str(INBOUND_PORT),
        "passthrough-source": "127.0.0.6,::6",
    }  # fmt: skip
    assert (counted(said, "outbound"), counted(said, "exclude-port")) == (3, 1)
    assert any(each["text"] == "TCP to port 443: left alone" for each in said["rules"])
    text = mesh.sluice("status").stdout
    assert "[exclude-port] TCP to port 443: left alone" in text and "connections" in text
    # The command line that it prints makes the same rules.
    again = next(line for line in text.splitlines() if line.startswith("the same rules again: "))
    assert mesh.sluice(*again.split(": ", 1)[1].split()[1:]).stdout.startswith("nftables, rules unchanged")


def test_status_as_nft_text_loads_again(mesh):
    mesh.sluice(*APPLY, "--preset", "istio", "--exclude-outbound-ports", "22,80-90")
    text = mesh.sluice("status", "--format", "nft").stdout
    mesh.nft("-f", "-", stdin=text, netns=mesh.world_name)
    assert mesh.rules(mesh.world_name) == mesh.rules()
    assert mesh.sluice("status", "--format", "iptables", check=False).returncode == 2


def test_status_of_nothing_is_no_failure(pod):
    said = answer(pod, "status")
    assert (said["backend"], said["rules"]) == (None, [])
    assert "nothing of sluice" in pod.sluice("status").stdout
    assert pod.generation() == pod.generation()


def test_status_warns_of_what_is_suspicious(pod):
    options = ("--inbound-port", str(INBOUND_PORT), "--exclude-outbound-ports", "22,25")
    pod.sluice("apply", *options)
    # As if an exclusion had let thousands through, which would take long to do.
    listed = pod.nft("list", "table", "inet", "sluice").stdout
    excluded = "@exclude_outbound_ports counter packets 0 bytes 0"
    assert excluded in listed
    listed = listed.replace(excluded, "@exclude_outbound_ports counter packets 5000 bytes 300000")
    pod.nft("-f", "-", stdin="delete table inet sluice\n" + listed)
    said = answer(pod, "status")
    assert said["exact"] is True
    assert any("[exclude-port] let 5000 through" in warning for warning in said["warnings"]), said["warnings"]
    pod.nft("add", "rule", "inet", "sluice", "outbound", "limit", "rate", "1/second", "accept")
    said = answer(pod, "status")
    assert said["exact"] is False
    assert any("cannot read" in warning for warning in said["warnings"])
    pod.nft("add", "table", "inet", "sluice", "{ flags dormant; }")
    assert any("dormant" in warning for warning in answer(pod, "status")["warnings"])


# --------------------------------------------------------------------------------------------------- doctor


def findings(said):
    return {each["check"]: each for each in said["findings"]}


def test_doctor_leaves_nothing_behind(mesh):
    mesh.nft("-f", "-", stdin="table ip other { chain out { type filter hook output priority 5; counter; }; }")
    for prepare in ((), APPLY):
        if prepare:
            mesh.sluice(*prepare)
        before = mesh.generation(), mesh.ruleset()
        said = answer(mesh, "doctor", *MESH)
        assert (mesh.generation(), mesh.ruleset()) == before
        assert said["can_apply"] is True
    assert findings(said)["sluice"]["severity"] == "ok"


def test_doctor_finds_every_feature_that_the_other_tests_use(pod):
    said = findings(answer(pod, "doctor", "--inbound-mode", "tproxy", "--dns", "all"))
    features = ("nf_tables", "inet NAT", "IPv4 NAT", "IPv6 NAT", "redirect", "tproxy", "owner match", "fib", "conntrack",
                "conntrack zones", "reject", "socket")  # fmt: skip
    for name in features:
        assert said["kernel: " + name]["severity"] == "ok", said["kernel: " + name]
    assert {f"kernel: xtables {name}" for name in ("REDIRECT", "owner", "TPROXY")} <= set(said)


def test_doctor_says_what_is_missing_and_how_to_get_it(pod):
    result = run(["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin", sluice_binary(), "doctor",
                  "--format", "json"], pod.name)  # fmt: skip
    assert result.returncode == 4, result.stderr
    said = json.loads(result.stdout)
    assert said["can_apply"] is False
    finding = findings(said)["capability"]
    assert finding["severity"] == "error" and "NET_ADMIN" in finding["remedy"]


def test_doctor_refuses_a_nodes_own_namespace(pod):
    pod.ip("link add cni0 type bridge")
    said = answer(pod, "doctor", code=4)
    assert findings(said)["host-network"]["severity"] == "error"
    assert answer(pod, "doctor", "--allow-host-network")["can_apply"] is True


def test_doctor_sees_the_proxy_the_other_tools_and_the_settings(mesh):
    said = answer(mesh, "doctor", *MESH)
    assert [each["severity"] for each in said["findings"] if each["check"] == "proxy"] == ["ok", "ok"]
    said = answer(mesh, "doctor", "--proxy-port", "4000")
    assert findings(said)["proxy"]["severity"] == "warning"
    mesh.nft(
        "-f", "-",
        stdin="table ip nat { chain ISTIO_OUTPUT { }; chain OUTPUT { type nat hook output priority -110; jump ISTIO_OUTPUT; }; }",
    )  # fmt: skip
    run(["sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv4.ip_forward=1"], mesh.name)
    said = findings(answer(mesh, "doctor", *MESH))
    assert "ip nat ISTIO_OUTPUT" in said["other-mesh"]["detail"]
    assert said["other-rules"]["severity"] == "warning" and "priority -110" in said["other-rules"]["detail"]
    assert "disabled" in said["ipv6"]["detail"]
    assert "forwards" in said["ip_forward"]["detail"]
    assert "would work here" in mesh.sluice("doctor", *MESH).stdout


LISTENING = {
    "inbound on loopback": ("inbound", ["127.0.0.1", "::1"], True, []),
    "inbound on every address of one family": ("inbound", ["0.0.0.0"], True, ["ipv4"]),
    "inbound on the pod's addresses": ("inbound", [IPV4.pod, IPV6.pod], True, ["ipv4", "ipv6"]),
    "inbound on :: for both": ("inbound", ["::"], False, ["ipv4", "ipv6"]),
    "inbound on :: for IPv6 only": ("inbound", ["::"], True, ["ipv6"]),
    "outbound on the pod's addresses": ("outbound", [IPV4.pod, IPV6.pod], True, []),
    "outbound on loopback of one family": ("outbound", ["127.0.0.1"], True, ["ipv4"]),
    "outbound on loopback": ("outbound", ["127.0.0.1", "::1"], True, ["ipv4", "ipv6"]),
    "outbound on another loopback": ("outbound", ["127.0.0.2", "::1"], True, ["ipv6"]),
}


@pytest.mark.parametrize("direction, hosts, ipv6_only, reached", LISTENING.values(), ids=LISTENING.keys())
def test_doctor_knows_a_listener_that_redirected_connections_do_not_reach(pod, direction, hosts, ipv6_only, reached):
    """And so does the kernel."""
    port = {"inbound": INBOUND_PORT, "outbound": OUTBOUND_PORT}[direction]
    pod.world.serve("world", 80)
    pod.app.serve("app", 5000)
    pod.proxy.serve("proxy", port, hosts=hosts, ipv6_only=ipv6_only)
    pod.sluice(*APPLY)
    told = [each for each in answer(pod, "doctor", *MESH)["findings"]
            if each["check"] == "proxy" and each["detail"].startswith(direction)]  # fmt: skip
    assert [each["severity"] for each in told] == ["ok" if len(reached) == 2 else "warning"]
    missed = [family for family in ("ipv4", "ipv6") if family not in reached]
    if missed:
        assert f"over {missed[0].replace('ip', 'IP')} they arrive at" in told[0]["detail"]
    for family in FAMILIES:
        found = pod.world.name_at(family.pod, 5000) if direction == "inbound" else pod.app.name_at(family.outside, 80)
        assert found == "proxy" if family.name in reached else "Refused" in found, found


def test_doctor_asks_a_family_only_where_it_is_captured_and_has_a_way_out(pod):
    for port in (OUTBOUND_PORT, INBOUND_PORT):
        pod.proxy.serve("proxy", port, hosts=["0.0.0.0"])
    proxy = lambda *options: {f["severity"] for f in answer(pod, "doctor", *MESH, *options)["findings"] if f["check"] == "proxy"}
    assert proxy() == {"warning"}
    assert proxy("--ip-family", "ipv4") == {"ok"}
    pod.ip(f"address del {IPV6.pod}/64 dev eth0")
    assert proxy() == {"ok"}


def proxy_user_findings(pod, *options):
    options = options if "--inbound-port" in options else (*MESH, *options)
    return [each for each in answer(pod, "doctor", *options)["findings"] if each["check"] == "proxy-user"]


def test_doctor_tells_who_else_runs_as_the_proxys_user(mesh):
    """What such a process connects to is not captured."""
    elsewhere = mesh.start(["sleep", "infinity"], PROXY_UID, netns=mesh.world_name)
    mesh.start(["sleep", "infinity"], PROXY_UID + 1)
    assert proxy_user_findings(mesh) == [], "neither the proxy, nor another user, nor one in another namespace"
    stranger = mesh.start(["sh", "-c", "exec sleep infinity"], PROXY_UID)
    name = pathlib.Path(f"/proc/{stranger.pid}/comm")
    wait_until(lambda: name.read_text() == "sleep\n", "the shell to become another program")
    (found,) = proxy_user_findings(mesh)
    assert found["severity"] == "warning" and f'{stranger.pid} "sleep"' in found["detail"]
    assert str(elsewhere.pid) not in found["detail"] and str(mesh.proxy.pid) not in found["detail"]
    assert "--proxy-mark" in found["remedy"]
    # As long as nothing listens, none of them is the proxy.
    (found,) = proxy_user_findings(mesh, "--proxy-port", "4000", "--inbound-port", "4001")
    assert str(mesh.proxy.pid) in found["detail"] and str(stranger.pid) in found["detail"]
    assert proxy_user_findings(mesh, "--proxy-uid", "", "--proxy-gid", PROXY_UID) == []


def test_doctor_takes_what_started_the_proxy_for_the_proxy(pod):
    """As Istio's agent starts Envoy, and a shell in an image starts either."""
    serve = "import socket, time; s = socket.create_server(('0.0.0.0', 15001)); time.sleep(1000)"
    # Whatever happens, they end with the shell.
    bound = "setpriv --pdeathsig KILL"
    pod.start(["sh", "-c", f'{bound} sleep 1000 & {bound} /usr/bin/python3 -c "{serve}"; true'], PROXY_UID)
    wait_until(lambda: ":15001" in run(["ss", "-Hltn"], pod.name).stdout, "the proxy to listen")
    said = answer(pod, "doctor", "--preset", "istio")
    assert "proxy-user" not in findings(said)
    pod.start(["sleep", "1000"], PROXY_UID)
    assert findings(answer(pod, "doctor", "--preset", "istio"))["proxy-user"]["severity"] == "warning"


IN_A_CONTAINER = """
as_proxy='setpriv --reuid 1337 --regid 1337 --clear-groups'
i=0
while [ $i -lt $2 ]; do $as_proxy sleep 1000 & i=$((i + 1)); done
if [ "$3" = listening ]; then
  $as_proxy /usr/bin/python3 -c "import socket, time; s = socket.create_server(('0.0.0.0', 15001)); time.sleep(1000)" &
fi
i=0
until [ $(ps -o comm= -U 1337 | grep -c '^sleep') = $2 ] && { [ "$3" = idle ] || ss -Hltn | grep -q :15001; }; do
  i=$((i + 1)); [ $i -lt 1000 ] || exit 9; sleep 0.01
done
setpriv --bounding-set -sys_ptrace --inh-caps -sys_ptrace $1 doctor --format json
"""


@pytest.mark.parametrize("others, proxy, severity", [
    (0, "idle", None), (1, "idle", "warning"), (0, "listening", None), (1, "listening", "info"),
])  # fmt: skip
def test_doctor_in_a_container_says_what_it_may_not_see(pod, others, proxy, severity):
    """Root without CAP_SYS_PTRACE sees whose processes are there, and neither their namespace nor their sockets."""
    container = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-ec", IN_A_CONTAINER, "sh"]
    done = run([*container, sluice_binary(), str(others), proxy], pod.name)
    found = findings(json.loads(done.stdout)).get("proxy-user")
    assert (found and found["severity"]) == severity, found
    if severity == "info":
        assert "cannot be seen without CAP_SYS_PTRACE" in found["detail"] and '"python3"' in found["detail"]


def test_doctor_tells_a_proxy_of_another_user(mesh):
    (found,) = proxy_user_findings(mesh, "--proxy-uid", "999")
    assert found["severity"] == "warning" and f"user {PROXY_UID} listens on port {OUTBOUND_PORT}" in found["detail"]
    assert proxy_user_findings(mesh, "--proxy-uid", "999", "--proxy-gid", PROXY_UID) == []


@pytest.mark.parametrize("options", [
    ["--preset", "istio"],
    ["--preset", "istio", "--dns", "all"],
    ["--proxy-uid", "1000,2000-2010", "--proxy-gid", "1337,1400"],
    ["--exclude-uids", "5-10,20", "--exclude-gids", "30,40-50"],
    ["--only-gids", "5,7"],
    ["--exclude-outbound-ports", ",".join(map(str, range(1000, 1100, 2)))],
    ["--exclude-inbound-ports", ",".join(map(str, range(1000, 1100, 2))), "--tunnel-ports", "15008"],
    ["--outbound-cidrs", "10.0.0.0/8,172.16.0.0/12,fd00::/8", "--exclude-outbound-cidrs", "10.1.0.0/16,10.3.0.0/16,fd00:1::/32"],
    ["--inbound-mode", "tproxy", "--inbound-port", "15006"],
], ids=lambda options: " ".join(options)[:40])
def test_rules_in_iptables_tables_are_told_as_the_options_that_made_them(pod, options):
    """iptables has no sets and a table for each family: a list is many rules there, and was once told as a change by hand."""
    pod.sluice("--backend", "iptables", *options)
    report = json.loads(pod.sluice("status", "--format", "json").stdout)
    assert report["exact"] is True, report["warnings"]
    pod.sluice("verify", "--backend", "iptables", *options)
