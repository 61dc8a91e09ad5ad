"""Large lists, interrupted calls, lost answers, missing privileges."""

import json
import re
import subprocess

import pytest

import nfnetlink
import pod as pods


def in_pod(pod, *command):
    return subprocess.run(["ip", "netns", "exec", pod.name, *command], capture_output=True, text=True, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
                          timeout=120, check=False)


def every_other_address(count):
    """Single addresses that cannot merge, over both families."""
    for number in range(0, count, 2):
        yield f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    for number in range(0, count, 2):
        yield f"2001:db8::{number >> 16 & 0xffff:x}:{number & 0xffff:x}"


def test_lists_of_a_hundred_thousand_elements_go_in_at_once_and_read_back(pod, tmp_path):
    path = tmp_path / "large.toml"
    addresses = ",".join(every_other_address(100_000))
    ranges = ",".join(f"{first}-{first + 3}" for first in range(1, 60_000, 12))
    path.write_text(f'exclude-outbound-cidrs = "{addresses}"\nexclude-outbound-ports = "{ranges}"\n')
    before = pod.generation()
    assert "created" in pod.sluice("--config", path).stdout
    assert pod.generation() == before + 1
    assert "unchanged" in pod.sluice("--config", path).stdout
    assert pod.generation() == before + 1
    listed = pod.nft("list", "set", "inet", "sluice", "exclude_outbound_v4").stdout
    assert listed.split("elements = {")[1].count(",") + 1 == 50_000
    assert pod.nft("list", "set", "inet", "sluice", "exclude_outbound_ports").stdout.count("-") == 5_000
    path.write_text(f'exclude-outbound-cidrs = "{addresses},10.255.255.255"\nexclude-outbound-ports = "{ranges}"\n')
    assert "replaced" in pod.sluice("--config", path).stdout
    assert pod.generation() == before + 2


def test_overlapping_adjacent_and_nested_networks_become_one(pod):
    pod.sluice("--exclude-outbound-cidrs", "10.0.0.0/9,10.128.0.0/9,10.1.0.0/16,10.2.3.4,fd00::/9,fd80::/9")
    assert "ip daddr 10.0.0.0/8" in pod.ruleset()
    assert "ip6 daddr fd00::/8" in pod.ruleset()


@pytest.mark.parametrize("call, error", [("sendto", "EINTR"), ("recvfrom", "EINTR"), ("recvfrom", "ENOBUFS")])
@pytest.mark.parametrize("existing", [False, True], ids=["first", "replacing"])
def test_an_interrupted_call_or_a_lost_answer_is_not_a_failure(pod, call, error, existing):
    """Whichever call of the run it hits: the answer may be lost, the rules are not."""
    pod.sluice()
    complete = pod.rules()
    for number in range(1, 16):
        pod.sluice("cleanup")
        if existing:
            pod.sluice("--proxy-port", "4000")
        done = in_pod(pod, "strace", "-qq", "-o", "/dev/null", "-e", f"inject={call}:error={error}:when={number}", pods.sluice_binary())
        assert done.returncode == 0, (number, done.stderr)
        assert pod.rules() == complete, number


def test_a_refused_socket_is_told_and_changes_nothing(pod):
    before = pod.generation()
    done = in_pod(pod, "strace", "-qq", "-o", "/dev/null", "-e", "inject=sendto:error=EPERM:when=2+", pods.sluice_binary())
    assert done.returncode == 4
    assert "Operation not permitted" in done.stderr
    assert pod.generation() == before


def test_without_net_admin_the_capability_is_named(pod):
    before = pod.generation()
    done = in_pod(pod, "setpriv", "--bounding-set=-all,+net_raw", "--inh-caps=-all", pods.sluice_binary())
    assert done.returncode == 4
    assert "CAP_NET_ADMIN" in done.stderr
    assert pod.generation() == before


def test_net_admin_alone_is_enough(pod):
    done = in_pod(pod, "setpriv", "--bounding-set=-all,+net_admin", "--inh-caps=-all,+net_admin", "--no-new-privs", pods.sluice_binary())
    assert done.returncode == 0, done.stderr


def test_an_unprivileged_user_with_the_ambient_capability_is_enough(pod):
    done = in_pod(pod, "setpriv", "--reuid=65534", "--clear-groups", "--inh-caps=-all,+net_admin", "--ambient-caps=-all,+net_admin",
                  "--bounding-set=-all,+net_admin", "--no-new-privs", pods.sluice_binary())
    assert done.returncode == 0, done.stderr


def test_apply_starts_no_process_and_writes_no_file(pod, tmp_path):
    trace = tmp_path / "trace"
    in_pod(pod, "strace", "-f", "-qq", "-o", str(trace), "-e", "trace=%process,%file", pods.sluice_binary())
    calls = trace.read_text()
    assert calls.count("execve(") == 1
    for call in ("fork(", "clone(", "clone3(", "O_WRONLY", "O_RDWR", "O_CREAT", "nsswitch", "resolv.conf", "localtime"):
        assert call not in calls, call


def test_other_privileges_are_gone_before_the_kernel_is_spoken_to(pod, tmp_path):
    trace = tmp_path / "trace"
    in_pod(pod, "strace", "-qq", "-o", str(trace), "-e", "trace=capset,prctl,sendto", pods.sluice_binary())
    calls = trace.read_text().splitlines()
    dropped = next(number for number, call in enumerate(calls) if call.startswith("capset("))
    assert "effective=1<<CAP_NET_ADMIN," in calls[dropped]
    sent = next(number for number, call in enumerate(calls) if "NFNL_SUBSYS_NFTABLES" in call)
    assert dropped < sent
    assert any("PR_SET_NO_NEW_PRIVS" in call for call in calls[:sent])


def test_the_nodes_own_namespace_is_refused(sluice):
    """Only refused, never programmed: the check comes before anything else, and this run has no privilege anyway."""
    done = subprocess.run(["setpriv", "--bounding-set=-all", "--inh-caps=-all", sluice], capture_output=True, text=True,
                          env={}, timeout=60, check=False)
    assert done.returncode == 4
    assert "--allow-host-network" in done.stderr or "CAP_NET_ADMIN" in done.stderr


@pytest.mark.parametrize("interface", ["cni0", "cali0123456789a"])
def test_a_namespace_with_a_nodes_interface_is_refused(pod, interface):
    in_pod(pod, "ip", "link", "add", interface, "type", "bridge")
    before = pod.generation()
    # Its interfaces are read from a file, and where there is no /proc the kernel is asked for them.
    without_proc = ["unshare", "-m", "sh", "-ec", 'mount -t tmpfs tmpfs /proc; exec "$@"', "sh"]
    for refused in (pod.sluice(check=False), in_pod(pod, *without_proc, pods.sluice_binary())):
        assert refused.returncode == 4
        assert interface in refused.stderr and "--allow-host-network" in refused.stderr
    assert pod.generation() == before
    assert pod.sluice("--allow-host-network").returncode == 0


def test_a_plan_compared_with_the_kernel_tells_every_rule_that_would_change(pod):
    assert pod.sluice("plan", "--diff", check=False).returncode == 3
    pod.sluice()
    same = pod.sluice("plan", "--diff", check=False)
    assert (same.returncode, same.stdout) == (0, "no difference\n")
    before = pod.generation()
    other = pod.sluice("plan", "--diff", "--proxy-uid", "99", check=False)
    assert other.returncode == 3
    assert other.stdout == "- outbound [proxy] meta skuid 1337 accept\n+ outbound [proxy] meta skuid 99 accept\n"
    assert pod.generation() == before


def test_a_comparison_is_also_for_programs(pod):
    pod.sluice()
    told = pod.sluice("plan", "--diff", "--format", "json", "--proxy-uid", "99", check=False)
    assert told.returncode == 3
    said = json.loads(told.stdout)
    assert said["match"] is False
    assert said["drift"] == [{"rule": "proxy", "table": "inet sluice", "chain": "outbound", "kind": "changed",
                              "expected": "meta skuid 99 accept", "found": "meta skuid 1337 accept"}]
    same = pod.sluice("plan", "--diff", "--format", "json")
    assert json.loads(same.stdout) == {"match": True, "drift": []}


def test_a_route_that_an_earlier_configuration_needed_is_a_difference(pod):
    pod.sluice()
    pod.ip("rule add fwmark 7 lookup 77 protocol 115")
    for command in (["plan", "--diff"], ["verify"]):
        told = pod.sluice(*command, check=False)
        assert told.returncode == 3
        assert "- ip -4 rule add fwmark 0x00000007 lookup 77\n" in told.stdout
    pod.sluice()
    assert pod.sluice("verify").stdout.startswith("no drift")


@pytest.mark.parametrize("mutation", [
    ["add", "rule", "inet", "sluice", "outbound", "accept"],
    ["insert", "rule", "inet", "sluice", "outbound", "tcp", "dport", "1", "accept"],
    ["add", "chain", "inet", "sluice", "mine"],
    ["add", "set", "inet", "sluice", "mine", "{ type inet_service; }"],
    ["flush", "chain", "inet", "sluice", "inbound"],
    ["add", "element", "inet", "sluice", "exclude_outbound_ports", "{ 9 }"],
    ["delete", "element", "inet", "sluice", "exclude_outbound_ports", "{ 80-90 }"],
    ["add", "counter", "inet", "sluice", "mine"],
    ["delete", "table", "inet", "sluice"],
], ids=" ".join)
def test_whatever_somebody_changes_in_the_table_is_seen_and_mended(pod, mutation):
    options = ["--exclude-outbound-ports", "80-90,443"]
    pod.sluice(*options)
    good = pod.rules()
    pod.nft(*mutation)
    assert pod.sluice("plan", "--diff", *options, check=False).returncode == 3
    pod.sluice(*options)
    assert pod.rules() == good


def test_the_close_wait_timeout_is_set_in_this_namespace_only(pod):
    path = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait"
    done = pod.sluice("--close-wait-timeout", "3599")
    assert "warning" not in done.stderr
    assert in_pod(pod, "cat", path).stdout == "3599\n"
    with open(path) as own:
        assert own.read() != "3599\n"


def test_a_read_only_proc_is_a_warning(pod):
    script = ("mount -o remount,ro,bind /proc/sys 2>/dev/null || { mount --bind /proc/sys /proc/sys && "
              "mount -o remount,ro,bind /proc/sys; }; exec ")
    done = in_pod(pod, "unshare", "-m", "sh", "-c", script + pods.sluice_binary() + " --close-wait-timeout 3599")
    assert done.returncode == 0, done.stderr
    assert "--close-wait-timeout" in done.stderr and "warning" in done.stderr


# -------------------------------------------------------------------------------------------- rules of another release

OTHER_RELEASES = {
    "older, of another shape": """table inet sluice {
	comment "sluice 0.0.1, applied 2020-01-01T00:00:00Z"
	counter seen { }
	map ports { type inet_service : verdict; elements = { 22 : accept, 80 : jump capture }; }
	set recent { type ipv4_addr; flags dynamic,timeout; timeout 1m; }
	chain capture {
		tcp dport 80 counter name "seen" update @recent { ip daddr } redirect to :15001
	}
	chain out {
		type nat hook output priority -90; policy accept;
		meta skuid 1337 return
		tcp dport vmap @ports
	}
	chain postrouting {
		type filter hook postrouting priority 0; policy accept;
	}
}
""",
    "newer, of the same shape but for one rule": """table inet sluice {
	comment "sluice 99.1.0, applied 2040-01-01T00:00:00Z, layout 7"
	chain outbound {
		type nat hook output priority -105; policy accept;
		meta skuid 1337 counter accept comment "proxy"
		meta l4proto tcp counter redirect to :15001-15003 random comment "outbound"
	}
}
""",
    "of an unknown kind": """table inet sluice {
	comment "by hand"
	quota spent { over 10 mbytes; }
	chain sluice {
		quota name "spent" drop
	}
}
""",
}


@pytest.fixture(params=OTHER_RELEASES.values(), ids=OTHER_RELEASES.keys())
def table_of_another_release(request, mesh):
    mesh.nft("-f", "-", stdin=request.param)
    return request.param


def test_rules_of_another_release_are_told_as_such(mesh, table_of_another_release):
    said = json.loads(mesh.sluice("status", "--format", "json").stdout)
    assert said["backend"] == "nftables" and said["exact"] is False
    stamped = {"0.0.1", "99.1.0"} & set(table_of_another_release.replace(",", "").split())
    assert said["version"] == (stamped.pop() if stamped else None)
    assert any("another version made them" in warning for warning in said["warnings"])
    assert "nearest configuration" in mesh.sluice("status").stdout
    assert mesh.sluice("verify", check=False).returncode == 3
    assert mesh.sluice("plan", "--diff", check=False).returncode == 3


def test_rules_of_another_release_are_replaced_in_one_transaction(mesh, table_of_another_release):
    generation = mesh.generation()
    assert "rules replaced" in mesh.sluice(*pods.APPLY).stdout
    assert mesh.generation() == generation + 1
    replaced = mesh.rules()
    assert mesh.sluice("verify", *pods.APPLY[1:]).stdout.startswith("no drift")
    assert mesh.app.name_at(pods.IPV4.outside, 80) == "outbound"
    mesh.sluice("cleanup")
    mesh.sluice(*pods.APPLY)
    assert mesh.rules() == replaced


def test_rules_of_another_release_are_removed(mesh, table_of_another_release):
    assert mesh.sluice("cleanup").stdout == "removed: table inet sluice\n"
    assert mesh.ruleset() == ""


OTHER_CHAINS = """*nat
:SLUICE_BEFORE_TIMES - [0:0]
:SLUICE_OUTBOUND - [0:0]
:MINE - [0:0]
-A OUTPUT -p udp -j MINE
-A OUTPUT -j SLUICE_OUTBOUND
-A SLUICE_OUTBOUND -p tcp -m mark ! --mark 0x7 -j SLUICE_BEFORE_TIMES
-A SLUICE_BEFORE_TIMES -p tcp -j REDIRECT --to-ports 4000
COMMIT
*mangle
:SLUICE_FORMER - [0:0]
-A INPUT -j SLUICE_FORMER
COMMIT
"""


@pytest.mark.parametrize("variant", ["nft", "legacy"])
@pytest.mark.parametrize("command", ["apply", "cleanup"])
def test_chains_of_another_release_in_iptables_tables_are_replaced_and_removed(mesh, variant, command):
    """Whatever is called SLUICE_ is ours, also where this sluice has no such chain, and no such table."""
    made = in_pod(mesh, "sh", "-c", f"iptables-{variant}-restore <<'E'\n{OTHER_CHAINS}E")
    assert made.returncode == 0, made.stderr
    options = ("--backend", "iptables", "--iptables-variant", variant)
    assert json.loads(mesh.sluice("status", "--format", "json").stdout)["exact"] is False
    mesh.sluice(command, *(options if command == "apply" else ()), *(pods.APPLY[1:] if command == "apply" else ()))
    left = in_pod(mesh, f"iptables-{variant}-save").stdout
    assert "SLUICE_BEFORE_TIMES" not in left and "SLUICE_FORMER" not in left
    assert "-A OUTPUT -p udp -j MINE" in left
    assert ("SLUICE_" in left) == (command == "apply")
    if command == "apply":
        assert mesh.sluice("verify", *options, *pods.APPLY[1:]).stdout.startswith("no drift")
        assert mesh.app.name_at(pods.IPV4.outside, 80) == "outbound"


def test_rules_whose_names_are_gone_are_replaced_and_removed(mesh):
    """What finds our rules is where they stand, never a comment."""
    text = re.sub(r' ?comment "[^"]*"', "", mesh.sluice("plan", *pods.APPLY[1:]).stdout)
    for command in (pods.APPLY, ("cleanup",)):
        mesh.nft("-f", "-", stdin="table inet sluice\ndelete table inet sluice\n" + text)
        assert "comment" not in mesh.listing() and mesh.app.name_at(pods.IPV4.outside, 80) == "outbound"
        assert mesh.sluice("verify", *pods.APPLY[1:], check=False).returncode == 3
        mesh.sluice(*command)
        assert ('comment "outbound"' in mesh.ruleset()) == (command == pods.APPLY)
    assert mesh.ruleset() == ""


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_rules_of_iptables_whose_names_are_gone_are_replaced_and_removed(mesh, variant):
    options = (*pods.APPLY[1:], "--backend", "iptables", "--iptables-variant", variant)
    plan = mesh.sluice("plan", *options).stdout.partition("# IPv6")[0]
    text = re.sub(r" -m comment --comment \S+", "", plan)
    restore = f"iptables-{variant}-restore --noflush <<'E'\n{text}E"
    for command in (("apply", *options), ("cleanup",)):
        mesh.sluice("cleanup")
        assert in_pod(mesh, "sh", "-c", restore).returncode == 0
        assert mesh.app.name_at(pods.IPV4.outside, 80) == "outbound"
        mesh.sluice(*command)
        left = in_pod(mesh, f"iptables-{variant}-save").stdout
        assert left.count("-j SLUICE_OUTBOUND") == ("--comment outbound" in left) == (command[0] == "apply")


def sent(pod, *arguments):
    """What an apply asks nf_tables for, in order; strace has no name for the request for the generation."""
    traced = in_pod(pod, "strace", "-qq", "-s", "100000", "-e", "trace=sendto", pods.sluice_binary(), "--backend", "nftables", *arguments)
    assert traced.returncode == 0, traced.stderr
    return re.findall(r"NFT_MSG_([A-Z]+)", traced.stderr)


def test_a_first_apply_deletes_nothing(pod):
    """Deleting makes the kernel wait; only who has something to delete does it."""
    first = sent(pod)
    assert "NEWRULE" in first and not [message for message in first if message.startswith("DEL")]
    assert "DELTABLE" in sent(pod, "--proxy-port", "4000")


def test_only_a_namespace_that_somebody_programmed_before_is_asked_what_is_there(pod):
    assert pod.generation() == 1
    assert sent(pod)[0] == "NEWTABLE"
    pod.sluice("cleanup")
    assert sent(pod)[0] == "GETTABLE"


def datagrams(trace, call):
    """What passed through the calls of that name, from strace's dump: ` | 00010  01 00 00 02  ...`."""
    found = []
    for line in trace.splitlines():
        if re.match(r"[a-z]+\(", line):
            found.append((line.startswith(f"{call}("), bytearray()))
        elif found and line.startswith(" | "):
            found[-1][1].extend(bytes.fromhex(line[9:59]))
    return [bytes(content) for wanted, content in found if wanted]


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--preset", "istio", "--dns", "all", "--proxy-mark", "0x1/0xf"],
        ["--inbound-mode", "tproxy", "--proxy-gid", "9", "--proxy-uid", "7-9"],
        ["--exclude-outbound-cidrs", "10.0.0.0/8,192.0.2.4,fd00::/8", "--exclude-outbound-ports", "22,80-90", "--exclude-uids", "5-9,77", "--exclude-gids", "3,9"],
        ["--ip-family", "ipv4", "--other-family", "reject", "--exclude-interfaces", "eth+,foo0", "--hairpin", "inbound", "--only-gids", "0-5"],
    ],
)
def test_the_kernel_tells_rules_in_the_bytes_that_they_were_sent_in(pod, options):
    """Which is what lets them be known again without being decoded (sent_rules.hpp)."""
    traced = in_pod(pod, "strace", "-qq", "-e", "trace=sendto,recvfrom", "-e", "read=all", "-e", "write=all", pods.sluice_binary(), "--backend", "nftables", *options)
    assert traced.returncode == 0, traced.stderr
    sent, told = ([rule for datagram in datagrams(traced.stderr, call) for rule in nfnetlink.rules_in(datagram)] for call in ("sendto", "recvfrom"))
    assert len(sent) > 9
    assert told == sent


@pytest.mark.parametrize("form", ["nft", "iptables", "json", "mermaid", "dot"])
def test_a_plan_asks_nothing_of_the_machine(pod, form):
    """As nobody, without /proc, and every socket refused."""
    options = ("plan", "--format", form, "--inbound-mode", "tproxy", "--exclude-outbound-cidrs", "10.0.0.0/8,fd00::/8")
    expected = pod.sluice(*options).stdout
    script = ('mount -t tmpfs tmpfs /proc && exec setpriv --reuid 65534 --regid 65534 --clear-groups --bounding-set=-all '
              '--inh-caps=-all "$@"')
    done = in_pod(pod, "unshare", "-m", "sh", "-ec", script, "sh", pods.sluice_binary(), *options)
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")
    refused = in_pod(pod, "strace", "-qq", "-o", "/dev/null", "-e", "inject=socket:error=EPERM", pods.sluice_binary(), *options)
    assert (refused.returncode, refused.stdout) == (0, expected)
