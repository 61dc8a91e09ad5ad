"""The commands that answer: explain, verify, status, doctor.

What they say is held against what the kernel does, or against what was done to it behind sluice's back.
"""

import json

import pytest

from pod import APP_UID, FAMILIES, INBOUND_PORT, IPV4, OUTBOUND_PORT, PROXY_UID, address

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
