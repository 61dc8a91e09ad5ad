"""Wrong input: exit 2, a message that names where, what and what is allowed, and a kernel that was not touched."""

import json
import os
import subprocess

import pytest

import pod as pods

LONG = "9" * 1_000_000


def flag(arguments, where, value, allowed="allowed"):
    return pytest.param(arguments, {}, None, where, value, allowed, id=" ".join(arguments)[:60] or "empty")


def variable(name, value, shown, allowed="allowed"):
    return pytest.param([], {name: value}, None, name, shown, allowed, id=f"{name}={value}"[:60])


def file(text, where, value, allowed="allowed"):
    return pytest.param([], {}, text, where, value, allowed, id="file:" + repr(text)[:50])


BAD = [
    # ports
    flag(["--proxy-port", "0"], "--proxy-port", '"0"', "1 to 65535"),
    flag(["--proxy-port", "65536"], "--proxy-port", '"65536"', "1 to 65535"),
    flag(["--proxy-port", "-1"], "--proxy-port", '"-1"', "looks like a flag"),
    flag(["--proxy-port", "80x"], "--proxy-port", '"80x"'),
    flag(["--proxy-port", " 80"], "--proxy-port", '" 80"'),
    flag(["--proxy-port", ""], "--proxy-port", '""'),
    flag(["--proxy-port="], "--proxy-port", '""'),
    flag(["--proxy-port", "http"], "--proxy-port", '"http"'),
    flag(["--proxy-port", "0x50"], "--proxy-port", '"0x50"'),
    flag(["--proxy-port", "80,81"], "--proxy-port", '"80,81"'),
    flag(["--proxy-port", "8e3"], "--proxy-port", '"8e3"'),
    flag(["--proxy-port", "+80"], "--proxy-port", '"+80"'),
    flag(["--proxy-port", "99999999999999999999999"], "--proxy-port", "99999999999999999999999"),
    flag(["--inbound-port", "70000"], "--inbound-port", '"70000"'),
    flag(["--dns", "all", "--dns-port", "0"], "--dns-port", '"0"'),
    flag(["--exclude-inbound-ports", "80-"], "--exclude-inbound-ports", '"80-"', "8000-8100"),
    flag(["--exclude-inbound-ports", "-80"], "--exclude-inbound-ports", '"-80"', "looks like a flag"),
    flag(["--exclude-inbound-ports", "90-80"], "--exclude-inbound-ports", '"90-80"', "lower port first"),
    flag(["--exclude-inbound-ports", "80-90-100"], "--exclude-inbound-ports", '"80-90-100"'),
    flag(["--exclude-inbound-ports", "0-80"], "--exclude-inbound-ports", '"0-80"'),
    flag(["--exclude-inbound-ports", "80-65536"], "--exclude-inbound-ports", '"80-65536"'),
    flag(["--exclude-inbound-ports", "443,[4222]"], "--exclude-inbound-ports", '"[4222]"'),
    flag(["--exclude-inbound-ports", "80,x,81"], "--exclude-inbound-ports", '"x"'),
    flag(["--exclude-inbound-ports", "80;81"], "--exclude-inbound-ports", '"80;81"'),
    flag(["--exclude-inbound-ports", "80\n81"], "--exclude-inbound-ports", r'"80\x0a81"'),
    flag(["--exclude-outbound-ports", "*"], "--exclude-outbound-ports", '"*"'),
    flag(["--outbound-ports", "1-70000"], "--outbound-ports", '"1-70000"'),
    flag(["--tunnel-ports", "a-b"], "--tunnel-ports", '"a-b"'),
    flag(["--exclude-outbound-ports", ",".join(["1"] * 1000) + ",65536"], "--exclude-outbound-ports", '"65536"'),
    flag(["--exclude-inbound-ports", "80 -j ACCEPT"], "--exclude-inbound-ports", '"80 -j ACCEPT"'),
    # networks
    flag(["--exclude-outbound-cidrs", "10.0.0.0/33"], "--exclude-outbound-cidrs", '"10.0.0.0/33"', "10.0.0.0/8"),
    flag(["--exclude-outbound-cidrs", "10.0.0.0/-1"], "--exclude-outbound-cidrs", '"10.0.0.0/-1"'),
    flag(["--exclude-outbound-cidrs", "10.0.0.0/"], "--exclude-outbound-cidrs", '"10.0.0.0/"'),
    flag(["--exclude-outbound-cidrs", "10.0.0.256"], "--exclude-outbound-cidrs", '"10.0.0.256"'),
    flag(["--exclude-outbound-cidrs", "10.0.0"], "--exclude-outbound-cidrs", '"10.0.0"'),
    flag(["--exclude-outbound-cidrs", "::/129"], "--exclude-outbound-cidrs", '"::/129"'),
    flag(["--exclude-outbound-cidrs", "fd00:::1"], "--exclude-outbound-cidrs", '"fd00:::1"'),
    flag(["--exclude-outbound-cidrs", "fe80::1%eth0"], "--exclude-outbound-cidrs", '"fe80::1%eth0"'),
    flag(["--exclude-outbound-cidrs", "10.0.0.0/8,::/200"], "--exclude-outbound-cidrs", '"::/200"'),
    flag(["--exclude-outbound-cidrs", "10.0.0.1-10.0.0.9"], "--exclude-outbound-cidrs", '"10.0.0.1-10.0.0.9"'),
    flag(["--exclude-outbound-cidrs", "example.org"], "--exclude-outbound-cidrs", '"example.org"'),
    flag(["--exclude-outbound-cidrs", "*"], "--exclude-outbound-cidrs", '"*"'),
    flag(["--exclude-outbound-cidrs", "-b"], "--exclude-outbound-cidrs", '"-b"', "looks like a flag"),
    flag(["--outbound-cidrs", "10.0.0.0/8;fd00::/8"], "--outbound-cidrs", '"10.0.0.0/8;fd00::/8"'),
    flag(["--exclude-inbound-cidrs", "10.0.0.0/8/8"], "--exclude-inbound-cidrs", '"10.0.0.0/8/8"'),
    flag(["--loopback-cidr", "10.0.0.0/8"], "--loopback-cidr", '"10.0.0.0/8"', "127.0.0.0/8"),
    flag(["--loopback-cidr", "::1"], "--loopback-cidr", '"::1"'),
    flag(["--passthrough-source", "127.0.0.6/32"], "--passthrough-source", '"127.0.0.6/32"'),
    # users, groups, marks
    flag(["--proxy-uid", "no-such-user"], "--proxy-uid", '"no-such-user"', "/etc/passwd"),
    flag(["--proxy-uid", "4294967295"], "--proxy-uid", '"4294967295"', "4294967294"),
    flag(["--proxy-uid", "10-1"], "--proxy-uid", '"10-1"', "lower ID first"),
    flag(["--proxy-uid", "1337 1338"], "--proxy-uid", '"1337 1338"'),
    flag(["--proxy-uid", ""], "--proxy-uid", "loop", "--proxy-mark"),
    flag(["--proxy-gid", "no-such-group"], "--proxy-gid", '"no-such-group"', "/etc/group"),
    flag(["--proxy-mark", "0"], "--proxy-mark", '"0"'),
    flag(["--proxy-mark", "0x100/0xff"], "--proxy-mark", '"0x100/0xff"'),
    flag(["--proxy-mark", "zebra"], "--proxy-mark", '"zebra"'),
    flag(["--exclude-outbound-ports-for-uids", "3306"], "--exclude-outbound-ports-for-uids", '"3306"'),
    flag(["--exclude-outbound-ports-for-uids", "sctp:1:2"], "--exclude-outbound-ports-for-uids", '"sctp:1:2"'),
    flag(["--exclude-outbound-ports-for-uids", "tcp:1-0:2"], "--exclude-outbound-ports-for-uids", '"1-0"'),
    # interfaces
    flag(["--exclude-interfaces", "eth0 -j ACCEPT"], "--exclude-interfaces", '"eth0 -j ACCEPT"', "1 to 15"),
    flag(["--exclude-interfaces", "a-name-much-too-long"], "--exclude-interfaces", '"a-name-much-too-long"'),
    flag(["--exclude-interfaces", "../eth0"], "--exclude-interfaces", '"../eth0"'),
    flag(["--exclude-interfaces", "*"], "--exclude-interfaces", '"*"'),
    flag(["--exclude-interfaces", "et*h0"], "--exclude-interfaces", '"et*h0"'),
    flag(["--exclude-interfaces", 'eth"0'], "--exclude-interfaces", r'"eth\"0"'),
    # choices, numbers, times
    flag(["--hairpin", "maybe"], "--hairpin", '"maybe"', "direct, inbound"),
    flag(["--ip-family", "IPv4"], "--ip-family", '"IPv4"', "dual, ipv4, ipv6"),
    flag(["--preset", "Istio"], "--preset", '"Istio"', "istio"),
    flag(["--udp", "reject"], "--udp", '"reject"', "reject:443"),
    flag(["--udp", "reject:0"], "--udp", '"0"'),
    flag(["--lock-timeout", "soon"], "--lock-timeout", '"soon"', "30s"),
    flag(["--lock-timeout", "-5s"], "--lock-timeout", '"-5s"'),
    flag(["--priority", "-200"], "--priority", '"-200"', "-199 to -1"),
    flag(["--priority", "5"], "--priority", '"5"', "-199 to -1"),
    flag(["--close-wait-timeout", "0"], "--close-wait-timeout", '"0"'),
    flag(["--drop-invalid=perhaps"], "--drop-invalid", '"perhaps"', "true, false"),
    flag(["--format", "yaml"], "--format", '"yaml"', "json"),
    flag(["--log-level", "loud"], "--log-level", '"loud"', "debug"),
    # duplicate, contradictory, unknown, missing
    flag(["--proxy-port", "1", "--proxy-port", "2"], "--proxy-port", '"2"', "once"),
    flag(["--tproxy-mark", "7"], "--tproxy-mark", "--inbound-mode tproxy"),
    flag(["--other-family", "reject"], "--other-family", "dual"),
    flag(["--backend", "nftables", "--iptables-variant", "legacy"], "--iptables-variant", "nftables"),
    flag(["--dns", "all", "--dns-port", "15001"], "--dns-port", "15001"),
    flag(["--proxy-prot", "1"], "--proxy-prot", "is no option", "did you mean --proxy-port?"),
    flag(["-p", "15001"], '"-p"', "is no option", "--help"),
    flag(["aply"], '"aply"', "is no command", "did you mean apply?"),
    flag(["apply", "cleanup"], '"cleanup"', "second command"),
    flag(["15001"], '"15001"', "is no command"),
    flag(["--diff"], "--diff", "of sluice plan, not of apply", "plan --diff"),
    flag(["cleanup", "--diff"], "--diff", "not of cleanup", "plan --diff"),
    flag(["verify", "--diff"], "--diff", "not of verify", "plan --diff"),
    flag(["plan", "--cleanup"], "--cleanup", "contradicts the command plan", "sluice cleanup"),
    flag(["verify", "--cleanup"], "--cleanup", "contradicts the command verify", "sluice cleanup"),
    flag(["verify", "--format", "nft"], "--format", '"nft" is no format of sluice verify', "text, json"),
    flag(["plan", "--format", "text"], "--format", '"text"', "nft, iptables, json, mermaid, dot"),
    flag(["plan", "--diff", "--format", "dot"], "--format", '"dot" is no format of sluice plan --diff', "text, json"),
    flag(["cleanup", "--format", "iptables"], "--format", '"iptables"', "text, json"),
    flag(["status", "--format", "mermaid"], "--format", '"mermaid"', "text, json, iptables, nft"),
    flag(["--proxy-port"], "--proxy-port", "missing", "a value"),
    flag(["--exclude-outbound-ports", "--dry-run"], "--exclude-outbound-ports", '"--dry-run"', "looks like a flag"),
    flag(["--proxy-port", LONG[:100_000]], "--proxy-port", "100000 bytes"),
    flag(["--config", "/no/such/file"], "--config", '"/no/such/file"', "readable"),
    flag(["--config", "/"], "--config", '"/"', "readable"),
    flag(["--config", ""], "--config", '""', "readable"),
    # variables
    variable("SLUICE_PROXY_PORT", "0", '"0"', "1 to 65535"),
    variable("SLUICE_PROXY_PORT", "", '""'),
    variable("SLUICE_DROP_INVALID", "maybe", '"maybe"', "true, false"),
    variable("SLUICE_EXCLUDE_OUTBOUND_CIDRS", "10.0.0.0/33", '"10.0.0.0/33"'),
    variable("SLUICE_DIFF", "true", "of sluice plan, not of apply", "plan --diff"),
    variable("SLUICE_FORMAT", "dot", '"dot" is no format of sluice apply', "text, json"),
    variable("SLUICE_CONFIG", "/no/such/file", '"/no/such/file"'),
    # files
    file("proxy-port = 0\n", "sluice.toml:1", '"0"', "1 to 65535"),
    file("# first\n\nproxy-port = 70000\n", "sluice.toml:3", '"70000"'),
    file('exclude-inbound-ports = ["80", "x"]\n', "sluice.toml:1", '"x"'),
    file("proxy-prot = 1\n", "sluice.toml:1", '"proxy-prot"', "did you mean proxy-port?"),
    file("proxy-port = 1\nproxy-port = 2\n", "sluice.toml:2", "more than once"),
    file("[proxy]\nport = 1\n", "sluice.toml:1", "section"),
    file("proxy-port\n", "sluice.toml:1", '"proxy-port"', "key = value"),
    file("proxy-port =\n", "sluice.toml:1", "no value"),
    file('proxy-port = "15001\n', "sluice.toml:1", "quote"),
    file('exclude-inbound-ports = ["80",\n', "sluice.toml", "does not end"),
    file("proxy-port = 15001\0\n", "sluice.toml:1", "NUL"),
    file("\x7fELF\x02\x01\x01\x00\x00", "sluice.toml:1", "NUL"),
    file("{\"proxy-port\": 1}\n", "sluice.toml:1", "key = value"),
    # words for which others take the default
    flag(["--inbound-mode", "none"], "--inbound-mode", '"none"', "redirect, tproxy, off"),
    flag(["--inbound-mode", "TPROXY"], "--inbound-mode", '"TPROXY"', "redirect, tproxy, off"),
    variable("SLUICE_LOCK_TIMEOUT", "soon", '"soon"'),
    # what is to be entered, and is not there
    flag(["--netns", "nosuch"], "--netns", '"nosuch" is no network namespace ("/run/netns/nosuch": No such file', "ip netns list"),
    flag(["status", "--netns", "999999999"], "--netns", '"999999999" is no network namespace', "the PID of a live process"),
    flag(["cleanup", "--netns", "/etc/passwd"], "--netns", '"/etc/passwd" is no network namespace (another kind of file)'),
    flag(["doctor", "--netns", "/proc/self/ns/uts"], "--netns", "another kind of namespace"),
    flag(["verify", "--netns", "a\nb"], "--netns", r'"a\x0ab" is no network namespace ("/run/netns/a\x0ab":'),
    flag(["plan", "--diff", "--netns", "/nosuch/path"], "--netns", '"/nosuch/path" is no network namespace'),
    variable("SLUICE_NETNS", "nosuch", '"nosuch" is no network namespace'),
    file('netns = "nosuch"\n', ":1: netns", '"nosuch" is no network namespace'),
]


@pytest.fixture(scope="module")
def quiet_pod(sluice):
    with pods.Pod() as pod:
        pod.nft("add", "table", "ip", "theirs")
        yield pod


def run(pod, arguments, environment, text, tmp_path):
    if text is not None:
        path = tmp_path / "sluice.toml"
        path.write_bytes(text.encode("latin-1"))
        arguments = [*arguments, "--config", str(path)]
    return pod.sluice(*arguments, env=environment, check=False)


@pytest.mark.parametrize("arguments, environment, text, where, value, allowed", BAD)
def test_bad_input_is_told_and_touches_nothing(quiet_pod, tmp_path, arguments, environment, text, where, value, allowed):
    before = quiet_pod.generation(), quiet_pod.ruleset()
    done = run(quiet_pod, arguments, environment, text, tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    told = [line for line in done.stderr.splitlines() if where in line and value in line and allowed in line]
    assert told, done.stderr[:2000]
    assert all(len(line) < 1000 for line in done.stderr.splitlines())
    assert (quiet_pod.generation(), quiet_pod.ruleset()) == before


def test_every_mistake_is_told_at_once(quiet_pod, tmp_path):
    done = run(quiet_pod, ["--proxy-port", "0", "--hairpin", "x", "--exclude-inbound-ports", "a,b", "--nonsense"],
               {"SLUICE_DNS_PORT": "-"}, "outbound-ports = 0\n", tmp_path)
    assert done.returncode == 2
    for mistake in ('--proxy-port: "0"', '--hairpin: "x"', '"a"', '"b"', '"--nonsense"', "SLUICE_DNS_PORT", "sluice.toml:1"):
        assert mistake in done.stderr


def test_a_log_in_json_tells_mistakes_in_json(quiet_pod, tmp_path):
    done = quiet_pod.sluice("--proxy-port", "0", env={"SLUICE_LOG_FORMAT": "json"}, check=False)
    assert done.returncode == 2
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert any(line["level"] == "error" and "--proxy-port" in line["message"] for line in lines)


def test_bad_input_opens_no_socket(quiet_pod, tmp_path):
    trace = tmp_path / "trace"
    done = subprocess.run(
        ["strace", "-f", "-qq", "-e", "trace=network,%process", "-o", str(trace), pods.sluice_binary(), "--proxy-port", "0"],
        capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "socket(" not in trace.read_text()
    assert trace.read_text().count("execve(") == 1


WARNED = [
    (["--exclude-outbound-cidrs", "10.0.0.1/8"], {}, "host bits"),
    (["--exclude-inbound-ports", "80,"], {}, "empty element"),
    (["--exclude-inbound-ports", ",80"], {}, "empty element"),
    (["--exclude-inbound-ports", "80, 81"], {}, "blanks"),
    (["--proxy-uid", "0"], {}, "UID 0"),
    (["--dns-port", "5353"], {}, "no effect"),
    (["--hairpin", "inbound"], {}, "--passthrough-source"),
    (["--preset", "istio", "--exclude-inbound-ports", "80"], {}, "replaces"),
    (["--exclude-outbound-cidrs", "0.0.0.0/0"], {}, "--outbound-cidrs"),
    ([], {"SLUICE_EXCLUDE_INBOUND_PORTS": "15001"}, "SLUICE_EXCLUDE_INBOUND_PORTS: 15001 is also --proxy-port"),
    ([], {"SLUICE_PROXY_PROT": "1"}, "SLUICE_PROXY_PORT"),
]


@pytest.mark.parametrize("arguments, environment, warning", WARNED, ids=lambda value: str(value)[:50])
def test_what_is_odd_but_clear_is_done_with_a_warning(quiet_pod, arguments, environment, warning):
    done = quiet_pod.sluice("plan", *arguments, env=environment, check=False)
    assert done.returncode == 0
    assert any("warning" in line and warning in line for line in done.stderr.splitlines()), done.stderr


def test_the_default_configuration_warns_of_nothing(quiet_pod):
    assert quiet_pod.sluice("plan", check=False).stderr == ""


def test_a_full_disk_is_told(quiet_pod):
    with open("/dev/full", "w") as full:
        done = subprocess.run([pods.sluice_binary(), "plan"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert "No space left" in done.stderr


def test_a_namespace_that_is_not_entered_may_be_anywhere(quiet_pod):
    """On another machine, or yet to come."""
    for command in (["plan"], ["--dry-run"], ["explain", "--dst", "198.18.0.1:80"], ["manifest"]):
        assert quiet_pod.sluice(*command, "--netns", "nosuch").returncode == 0


def test_what_hangs_when_it_is_opened_is_no_namespace(quiet_pod, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    done = quiet_pod.sluice("--netns", tmp_path / "pipe", check=False)
    assert done.returncode == 2 and "another kind of file" in done.stderr
