"""The iptables backend: what it writes is what iptables writes, what it decides is what the nftables backend decides,
and what is not ours stays as it is."""

import fcntl
import json
import os
import re
import threading

import pytest

import pod as pods
from pod import FAMILIES, INBOUND_PORT, IPV4, IPV6
from test_lifecycle import APPLY, CONFIGURATIONS, configuration, kill_after, moments_of

IPTABLES = ("--backend", "iptables", "--iptables-variant", "nft")
LEGACY = ("--backend", "iptables", "--iptables-variant", "legacy")

MORE_CONFIGURATIONS = {
    "many-ports": (
        "--exclude-outbound-ports", ",".join(str(port) for port in range(1, 70, 2)) + ",8000-8100,8200-8201",
        "--inbound-ports", "80,443,5000-5010", "--only-gids", "7,9,2000",
    ),
    "dns-and-udp": ("--dns", "all", "--udp", "reject:443,15053", "--preset", "istio"),
    "tproxy-hairpin": ("--inbound-mode", "tproxy", "--hairpin", "inbound", "--drop-invalid", "--proxy-mark", "0x7"),
    "ipv6-only": ("--ip-family", "ipv6", "--other-family", "reject"),
    "nothing-outbound": ("--outbound-cidrs", "", "--inbound-mode", "off", "--proxy-port-access", "capture"),
    "odd-networks": ("--exclude-outbound-cidrs", "10.0.0.1,10.0.0.2,10.0.0.3,192.168.1.128/25,fd00::/9,2001:db8::1"),
    "kuma": ("--preset", "kuma"),
    "linkerd": ("--preset", "linkerd"),
    "consul": ("--preset", "consul"),
}  # fmt: skip
ALL = {**CONFIGURATIONS, **MORE_CONFIGURATIONS}


@pytest.fixture(params=ALL.values(), ids=ALL.keys())
def any_configuration(request):
    return request.param


def run(pod, *argv, stdin="", netns=None):
    return pods.succeeded(pods.run(list(argv), netns or pod.name, stdin=stdin)).stdout


def without_comments(text):
    return "".join(line + "\n" for line in text.splitlines() if not line.startswith("#"))


def saved(pod, variant="nft", netns=None, counters=False):
    """What both families' save programs print, as one text."""
    text = ""
    for program in (f"iptables-{variant}-save", f"ip6tables-{variant}-save"):
        text += f"== {program}\n" + without_comments(run(pod, program, *(["-c"] if counters else []), netns=netns))
    return text


def plan(pod, *configuration):
    """The plan's two parts, by the program that loads them."""
    text = pod.sluice("plan", *APPLY[1:], *IPTABLES, *configuration).stdout
    parts = dict(re.findall(r"^# IPv[46]: (\w+)-restore --noflush\n((?s:.*?))(?=^# IPv|\Z)", text, re.M))
    assert parts or "SLUICE" not in text
    return {program: parts.get(program, "") for program in ("iptables", "ip6tables")}


def restore(pod, parts, variant, netns):
    for program, text in parts.items():
        run(pod, f"{program}-{variant}-restore", "--noflush", stdin=text, netns=netns)


def netlink_listing(pod, netns=None):
    """The rules as nft sees them on the wire, without their handles and what they counted. It may stop in the middle of the listing proper,
    where it meets a target that it has no words for."""
    text = pod.nft("--debug=netlink", "list", "ruleset", check=False, netns=netns).stdout
    text = re.sub(r"(pkts|packets) \d+ bytes \d+", r"\1", text)
    return re.sub(r"^(ip6? \w+ \w+) [\d ]+$", r"\1", text, flags=re.M)


def rules_by_table(text):
    """The -A lines of each table of a save text, in order."""
    found, table = {}, None
    for line in text.splitlines():
        if line.startswith(("*", "==")):
            table = line if line.startswith("==") else (table.split(" *")[0] + " " + line if table else line)
        elif line.startswith("-A"):
            found.setdefault(table, []).append(line)
    return found


# -------------------------------------------------------------------------------------------- as iptables does it


def test_iptables_save_prints_the_plan(pod, any_configuration):
    pod.sluice(*APPLY, *IPTABLES, *any_configuration)
    parts = plan(pod, *any_configuration)
    assert saved(pod) == "".join(
        f"== {program}-nft-save\n" + without_comments(text) for program, text in parts.items()
    )


def test_the_plan_restored_by_iptables_nft_is_what_apply_makes(pod, any_configuration):
    restore(pod, plan(pod, *any_configuration), "nft", pod.world_name)
    pod.sluice(*APPLY, *IPTABLES, *any_configuration)
    assert netlink_listing(pod) == netlink_listing(pod, pod.world_name)


def test_the_plan_restored_by_iptables_legacy_lists_as_it_was_written(pod, any_configuration):
    parts = plan(pod, *any_configuration)
    restore(pod, parts, "legacy", pod.world_name)
    text = "".join(f"== {program}-legacy-save\n{part}" for program, part in parts.items())
    assert rules_by_table(saved(pod, "legacy", pod.world_name)) == rules_by_table(text)


def test_apply_again_sends_no_transaction(pod, any_configuration):
    pod.sluice(*APPLY, *IPTABLES, *any_configuration)
    generation = pod.generation()
    pod.sluice(*APPLY, *IPTABLES, *any_configuration)
    assert pod.generation() == generation


def test_both_families_and_all_tables_come_in_one_transaction(pod):
    before = pod.generation()
    pod.sluice(*APPLY, *IPTABLES, "--inbound-mode", "tproxy", "--dns", "all", "--udp", "reject:443")
    assert pod.generation() == before + 1
    pod.sluice(*APPLY, *IPTABLES)
    assert pod.generation() == before + 2


def test_cleanup_leaves_nothing_behind(pod, any_configuration):
    pod.sluice(*APPLY, *IPTABLES, *any_configuration)
    pod.sluice("cleanup")
    assert pod.ruleset() == ""


@pytest.mark.parametrize("command, differs", [
    (("-D", "SLUICE_OUTBOUND", "2"), "+ ip nat SLUICE_OUTBOUND [proxy]"),
    (("-I", "SLUICE_OUTBOUND", "-p", "tcp", "--dport", "7", "-j", "RETURN"), "- ip nat SLUICE_OUTBOUND"),
    (("-R", "SLUICE_REDIRECT", "1", "-p", "tcp", "-j", "REDIRECT", "--to-ports", "9"), "+ ip nat SLUICE_REDIRECT"),
    (("-D", "OUTPUT", "-j", "SLUICE_OUTBOUND"), "+ ip nat OUTPUT -A OUTPUT -j SLUICE_OUTBOUND"),
    (("-I", "OUTPUT", "-p", "tcp", "-j", "ACCEPT"), "+ ip nat OUTPUT -A OUTPUT -j SLUICE_OUTBOUND as rule 1"),
], ids=["deleted", "inserted", "replaced", "jump-deleted", "somebody-before-us"])  # fmt: skip
def test_what_iptables_edits_is_seen_and_mended(pod, command, differs):
    pod.sluice(*APPLY, *IPTABLES)
    run(pod, "iptables-nft", "-t", "nat", *command)
    found = pod.sluice("plan", "--diff", *APPLY[1:], *IPTABLES, check=False)
    assert found.returncode == 3 and differs in found.stdout
    assert "replaced" in pod.sluice(*APPLY, *IPTABLES).stdout
    assert pod.sluice("plan", "--diff", *APPLY[1:], *IPTABLES).stdout == "no difference\n"


def test_no_program_in_the_path_is_needed(mesh, family):
    nowhere = {"PATH": "/nonexistent"}
    mesh.sluice(*APPLY, *IPTABLES, env=nowhere)
    assert mesh.app.name_at(family.outside, 80) == "outbound"
    assert mesh.world.name_at(family.pod, 5000) == "inbound"
    mesh.sluice("cleanup", env=nowhere)
    assert mesh.app.name_at(family.outside, 80) == "world"


def test_lists_too_long_for_iptables_are_refused_before_anything_is_touched(pod, tmp_path):
    path = tmp_path / "large.toml"
    networks = ",".join(f"10.{number >> 7}.{number * 2 & 255}.0/24" for number in range(12_000))
    path.write_text(f'exclude-outbound-cidrs = "{networks}"\n')
    refused = pod.sluice(*APPLY, *IPTABLES, "--config", path, check=False)
    assert refused.returncode == 2 and "--backend nftables" in refused.stderr
    assert pod.ruleset() == ""
    assert pod.sluice("plan", *IPTABLES, "--config", path, check=False).returncode == 2
    pod.sluice(*APPLY, "--config", path)


def test_long_lists_below_the_limit_work(mesh, tmp_path):
    path = tmp_path / "long.toml"
    networks = ",".join(f"10.{number >> 7}.{number * 2 & 255}.0/24" for number in range(4_000))
    path.write_text(f'exclude-outbound-cidrs = "{networks},203.0.113.0/24"\n')
    mesh.sluice(*APPLY, *IPTABLES, "--config", path)
    assert mesh.app.name_at(IPV4.other, 80) == "world"
    assert mesh.app.name_at(IPV4.outside, 80) == "outbound"
    assert "unchanged" in mesh.sluice(*APPLY, *IPTABLES, "--config", path).stdout


# ------------------------------------------------------------------------------------------------- the same decisions


def decisions(pod):
    """Who answers, for connections that meet most of the rules."""
    found = {}
    for family in FAMILIES:
        for user in (pod.app, pod.proxy, pod.root):
            for port in (80, 443, 8080):
                found[user.uid, family.name, "outside", port] = user.name_at(family.outside, port)
            found[user.uid, family.name, "other", 80] = user.name_at(family.other, 80)
            found[user.uid, family.name, "loopback", 5000] = user.name_at(family.loopback, 5000)
            found[user.uid, family.name, "self", 5000] = user.name_at(family.pod, 5000)
            found[user.uid, family.name, "self", 15008] = user.name_at(family.pod, 15008)
        for port in (5000, 5001, 15008, 15001, INBOUND_PORT):
            found["world", family.name, "pod", port] = pod.world.name_at(family.pod, port)
    return found


@pytest.mark.parametrize("name", [
    "defaults", "lists", "owners", "istio-like", "preset-istio", "dns", "udp", "ipv4-only", "nested", "many-ports",
])  # fmt: skip
def test_both_backends_decide_alike(mesh, name):
    mesh.sluice(*APPLY, "--backend", "nftables", *ALL[name])
    expected = decisions(mesh)
    assert len(set(expected.values())) > 2
    for backend in (IPTABLES, LEGACY):
        mesh.sluice(*APPLY, *backend, *ALL[name])
        assert decisions(mesh) == expected


# -------------------------------------------------------------------------------------------------------- coexistence

FOREIGN = {
    "docker": """*nat
:PREROUTING ACCEPT [3:180]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [7:420]
:POSTROUTING ACCEPT [7:420]
:DOCKER - [0:0]
[5:300] -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
[6:360] -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
[1:60] -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
[2:120] -A DOCKER -i docker0 -j RETURN
[0:0] -A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [9:540]
:OUTPUT ACCEPT [0:0]
:DOCKER-USER - [0:0]
[4:240] -A FORWARD -j DOCKER-USER
[4:240] -A DOCKER-USER -j RETURN
COMMIT
""",
    "kube-proxy": """*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-ERIFXISQEP7F7OF4 - [0:0]
[10:600] -A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
[11:660] -A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
[2:120] -A KUBE-SERVICES -d 10.96.0.77/32 -p tcp -m comment --comment "kube-system/kube-dns:dns-tcp cluster IP" -m tcp --dport 53 -j KUBE-SVC-ERIFXISQEP7F7OF4
[1:60] -A KUBE-SVC-ERIFXISQEP7F7OF4 -p tcp -m statistic --mode random --probability 0.50000000000 -j DNAT --to-destination 10.244.0.2:53
COMMIT
""",
    "ufw": """*filter
:INPUT ACCEPT [21:1260]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [22:1320]
:ufw-before-input - [0:0]
[13:780] -A INPUT -j ufw-before-input
[12:720] -A ufw-before-input -i lo -j ACCEPT
[1:60] -A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
""",
    "by-hand": """*mangle
:PREROUTING ACCEPT [1:40]
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
[8:480] -A OUTPUT -p tcp -m tcp --dport 9 -m comment --comment "mine, not yours" -j MARK --set-xmark 0x99/0xff
COMMIT
*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
[6:360] -A OUTPUT -p udp -m udp --dport 9 -j CT --notrack
COMMIT
""",
    "other-meshes": """*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:ISTIO_OUTPUT - [0:0]
:PROXY_INIT_OUTPUT - [0:0]
[3:180] -A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN
[4:240] -A PROXY_INIT_OUTPUT -o lo -m comment --comment "proxy-init/ignore-loopback" -j RETURN
COMMIT
""",
}  # fmt: skip


def lines_of_others(text):
    """A save text without what is ours, and without the tables that had to be made."""
    kept = [line for line in text.splitlines() if "SLUICE_" not in line]
    return "\n".join(line for line in kept if re.match(r"\[\d+:\d+\] -A|:[^A-Z]|:\w+-|:DOCKER|:ISTIO|:PROXY", line))


@pytest.mark.parametrize("backend", [IPTABLES, LEGACY], ids=["nft", "legacy"])
@pytest.mark.parametrize("foreign", FOREIGN.values(), ids=FOREIGN.keys())
def test_rules_of_others_survive_byte_for_byte(pod, foreign, backend):
    variant = backend[-1]
    # No stray packet is to move a counter.
    pod.ip("link set eth0 down")
    for program in ("iptables", "ip6tables"):
        text = foreign if program == "iptables" else re.sub(r"^\[.*\d+\.\d+\.\d+\.\d+.*\n", "", foreign, flags=re.M)
        run(pod, f"{program}-{variant}-restore", "-c", stdin=text)
        for table in ("raw", "mangle", "nat", "filter") if variant == "legacy" else ():
            # Old tables come into being when somebody looks, and nothing can remove one.
            run(pod, f"{program}-legacy", "-t", table, "-L", "-n")
    before = saved(pod, variant, counters=True)
    everything = pod.ruleset() if variant == "nft" else ""

    for arguments in (
        (*backend, "--inbound-mode", "tproxy", "--dns", "all", "--udp", "reject:443"),
        (*backend, "--exclude-outbound-ports", "22"),
        ("--backend", "nftables"),
        backend,
    ):
        pod.sluice(*APPLY, *arguments)
        assert lines_of_others(saved(pod, variant, counters=True)) == lines_of_others(before)
    pod.sluice("cleanup")
    after = saved(pod, variant, counters=True)
    if variant == "nft":
        assert after == before and pod.ruleset() == everything
    else:
        # Every change through iptables-legacy, by whomever, zeroes what the policies counted; not what the rules did.
        assert after == re.sub(r"^(:\w+ (?:ACCEPT|DROP)) \[.*\]$", r"\1 [0:0]", before, flags=re.M)


def test_rules_added_to_tables_that_we_made_stay_when_we_go(pod):
    pod.sluice(*APPLY, *IPTABLES)
    run(pod, "iptables-nft", "-t", "nat", "-A", "POSTROUTING", "-o", "eth0", "-j", "MASQUERADE")
    run(pod, "iptables-nft", "-P", "FORWARD", "DROP")
    pod.sluice("cleanup")
    text = run(pod, "iptables-nft-save")
    assert "-A POSTROUTING -o eth0 -j MASQUERADE" in text and ":FORWARD DROP" in text and "SLUICE" not in text
    assert "SLUICE" not in pod.ruleset() and "ip6" not in pod.ruleset()


def test_a_table_of_nft_on_the_same_hooks_is_left_alone(mesh, family):
    mesh.nft("-f", "-", stdin="table inet other { chain o { type nat hook output priority -100; tcp dport 7 counter redirect to :8; }\n}\n")
    before = mesh.ruleset()
    mesh.sluice(*APPLY, *IPTABLES)
    assert mesh.app.name_at(family.outside, 80) == "outbound"
    mesh.sluice("cleanup")
    assert mesh.ruleset() == before


def test_a_table_that_iptables_calls_incompatible_is_used_all_the_same(mesh):
    mesh.nft("-f", "-", stdin="table ip nat { set s { type ipv4_addr; }\nchain mine { type nat hook output priority -90; ip daddr @s counter accept; }\n}\n")
    before = mesh.ruleset()
    mesh.sluice(*APPLY, *IPTABLES)
    assert mesh.app.name_at(IPV4.outside, 80) == "outbound"
    mesh.sluice("cleanup")
    assert mesh.ruleset() == before


def test_a_chain_of_another_kind_under_the_name_of_iptables_is_refused(pod):
    pod.nft("-f", "-", stdin="table ip nat { chain OUTPUT { type nat hook output priority -50; }\n}\n")
    before = pod.ruleset()
    refused = pod.sluice(*APPLY, *IPTABLES, check=False)
    assert refused.returncode == 1 and "ip nat" in refused.stderr and "OUTPUT" in refused.stderr
    assert pod.ruleset() == before


def test_a_chain_that_somebody_else_jumps_to_is_not_taken_from_under_them(pod):
    pod.sluice(*APPLY, *IPTABLES, "--dns", "all")
    run(pod, "iptables-nft", "-t", "nat", "-N", "mine")
    run(pod, "iptables-nft", "-t", "nat", "-A", "mine", "-j", "SLUICE_DNS")
    before = pod.generation()
    refused = pod.sluice(*APPLY, *IPTABLES, check=False)
    assert refused.returncode == 1 and "SLUICE_DNS, to which no other rule may jump" in refused.stderr
    assert pod.generation() == before
    assert "replaced" in pod.sluice(*APPLY, *IPTABLES, "--dns", "all", "--dns-port", "5353").stdout


# ------------------------------------------------------------------------------------------------------ the old tables


def test_a_missing_program_is_told_with_what_to_do(pod):
    refused = pod.sluice(*APPLY, *LEGACY, check=False, env={"PATH": "/nonexistent"})
    assert refused.returncode == 4
    assert "iptables-legacy-restore" in refused.stderr and "--iptables-variant nft" in refused.stderr
    assert captured_by(pod) == set()


@pytest.fixture
def lock(pod):
    """The xtables lock of this pod alone, and how to name it."""
    path = pod.scratch / "xtables.lock"
    with open(path, "w") as file:
        yield file, {"XTABLES_LOCKFILE": str(path)}


def test_a_lock_held_elsewhere_is_waited_for(pod, lock):
    file, environment = lock
    fcntl.flock(file, fcntl.LOCK_EX)
    timer = threading.Timer(1.5, fcntl.flock, [file, fcntl.LOCK_UN])
    timer.start()
    assert "created" in pod.sluice(*APPLY, *LEGACY, env=environment).stdout
    timer.join()


def test_a_lock_that_is_never_released_is_told_and_nothing_changes(pod, lock):
    file, environment = lock
    fcntl.flock(file, fcntl.LOCK_EX)
    refused = pod.sluice(*APPLY, *LEGACY, "--lock-timeout", "1s", check=False, env=environment)
    assert refused.returncode == 1 and "lock" in refused.stderr and "--lock-timeout" in refused.stderr
    assert captured_by(pod) == set()


def test_a_failure_in_the_second_family_rolls_the_first_back(pod):
    # No stray packet is to move a counter.
    pod.ip("link set eth0 down")
    pod.sluice(*APPLY, *LEGACY, "--dns", "all")
    run(pod, "ip6tables-legacy", "-t", "nat", "-N", "mine")
    run(pod, "ip6tables-legacy", "-t", "nat", "-A", "mine", "-j", "SLUICE_DNS")
    before = saved(pod, "legacy")
    # The chain SLUICE_DNS would have to go, and cannot.
    refused = pod.sluice(*APPLY, *LEGACY, "--exclude-outbound-ports", "22", check=False)
    assert refused.returncode == 1 and "nothing was changed" in refused.stderr
    assert saved(pod, "legacy") == before


def test_what_iptables_legacy_edits_is_seen_and_mended(pod):
    pod.sluice(*APPLY, *LEGACY)
    run(pod, "iptables-legacy", "-t", "nat", "-D", "SLUICE_OUTBOUND", "2")
    run(pod, "ip6tables-legacy", "-t", "nat", "-I", "OUTPUT", "-p", "tcp", "-j", "ACCEPT")
    found = pod.sluice("plan", "--diff", *APPLY[1:], *LEGACY, check=False)
    assert found.returncode == 3 and "+ ip nat SLUICE_OUTBOUND [proxy]" in found.stdout
    assert "replaced" in pod.sluice(*APPLY, *LEGACY).stdout
    assert pod.sluice("plan", "--diff", *APPLY[1:], *LEGACY).stdout == "no difference\n"
    assert "unchanged" in pod.sluice(*APPLY, *LEGACY).stdout


def test_a_kernel_without_nf_tables_gets_the_old_tables(mesh, family):
    """Every socket for nf_tables is refused, as a kernel without nfnetlink refuses it: the first, and one for each backend that is
    tried. So is the one between them, which is to ask about the namespace instead: strace cannot tell it from the others."""
    strace = ["strace", "-qq", "-o", str(mesh.scratch / "trace"), "-e", "trace=socket"]
    command = [pods.sluice_binary(), *APPLY]
    run(mesh, *strace, *command)
    calls = (mesh.scratch / "trace").read_text().splitlines()
    first = next(number for number, call in enumerate(calls, 1) if "NETLINK_NETFILTER" in call)
    mesh.sluice("cleanup")

    refused = [*strace, "-e", f"inject=socket:error=EPROTONOSUPPORT:when={first}..{first + 3}"]
    done = pods.succeeded(pods.run([*refused, *command], mesh.name))
    calls = (mesh.scratch / "trace").read_text().splitlines()
    assert [call.count("NETLINK_NETFILTER") for call in calls if "INJECTED" in call] == [1, 0, 1, 1]
    assert done.stdout.startswith("iptables (legacy), rules created")
    assert "nftables is not possible here" in done.stderr or "iptables (nft) is not possible here" in done.stderr
    assert captured_by(mesh) == {"iptables-legacy"}
    assert mesh.app.name_at(family.outside, 80) == "outbound"


# ------------------------------------------------------------------------------------------------- from one to another


BACKENDS = {"nftables": ("--backend", "nftables"), "iptables-nft": IPTABLES, "iptables-legacy": LEGACY}


def captured_by(pod):
    """The backends in which there are rules of ours."""
    kinds = set()
    if "table inet sluice" in pod.ruleset():
        kinds.add("nftables")
    if "SLUICE_" in saved(pod):
        kinds.add("iptables-nft")
    if "SLUICE_" in saved(pod, "legacy"):
        kinds.add("iptables-legacy")
    return kinds


def test_rules_are_moved_and_never_doubled(mesh, family):
    for name in ("nftables", "iptables-nft", "iptables-legacy", "nftables", "iptables-legacy", "iptables-nft", "nftables"):
        mesh.sluice(*APPLY, *BACKENDS[name])
        assert captured_by(mesh) == {name}
        assert mesh.app.name_at(family.outside, 80) == "outbound"
        assert mesh.world.name_at(family.pod, 5000) == "inbound"


@pytest.mark.parametrize("name", BACKENDS)
def test_cleanup_finds_the_rules_of_every_backend(pod, name):
    pod.sluice(*APPLY, *BACKENDS[name])
    assert captured_by(pod) == {name}
    told = pod.sluice("cleanup", "--dry-run").stdout
    assert captured_by(pod) == {name} and "would remove" in told
    pod.sluice("cleanup")
    assert captured_by(pod) == set()
    assert pod.sluice("cleanup").stdout == "nothing of sluice is here\n"


def test_auto_chooses_nftables_also_after_somebody_listed_legacy_tables(pod):
    assert pod.sluice(*APPLY).stdout.startswith("nftables,")
    run(pod, "iptables-legacy", "-t", "nat", "-L", "-n")
    assert pod.sluice(*APPLY).stdout.startswith("nftables, rules unchanged")
    assert captured_by(pod) == {"nftables"}


def test_looking_makes_no_old_table(pod):
    """Merely listing one makes it, and the next to look takes it for somebody's choice."""
    env = {"PATH": os.environ["PATH"]}
    for backend in ("nftables", "iptables-nft"):
        mesh = (*APPLY[1:], *BACKENDS[backend])
        for command in ("apply", "apply", "verify", "doctor", "plan"):
            pod.sluice(command, *mesh, *(["--diff"] if command == "plan" else ()), env=env)
        pod.sluice("status", env=env)
        pod.sluice("cleanup", env=env)
    pod.sluice(*APPLY, env=env)
    for names in ("ip_tables_names", "ip6_tables_names"):
        assert run(pod, "sh", "-c", f"cat /proc/net/{names} 2>/dev/null || true") == ""


@pytest.mark.parametrize("first, second", [
    ("nftables", "iptables-nft"), ("iptables-nft", "iptables-legacy"), ("nftables", "iptables-legacy"),
])  # fmt: skip
def test_no_connection_escapes_while_the_backend_changes(mesh, first, second):
    mesh.sluice(*APPLY, *BACKENDS[first])
    outside = [(family.outside, 80) for family in FAMILIES]
    inside = [(family.pod, 5000) for family in FAMILIES]
    with mesh.app.stream(outside) as from_the_pod, mesh.world.stream(inside) as from_outside:
        for number in range(12):
            mesh.sluice(*APPLY, *BACKENDS[second if number % 2 == 0 else first])
    assert set(from_the_pod) == {"outbound"} and set(from_outside) == {"inbound"}
    assert from_the_pod["outbound"] > 20 and from_outside["inbound"] > 20


def test_a_kill_while_the_backend_changes_leaves_the_one_or_the_other(mesh):
    states = []
    for backend in ("nftables", "iptables-nft"):
        mesh.sluice(*APPLY, *BACKENDS[backend])
        states.append((captured_by(mesh), saved(mesh)))
    for moment in moments_of(lambda: mesh.sluice(*APPLY, *BACKENDS["iptables-nft"]), 20):
        mesh.sluice(*APPLY, *BACKENDS["nftables"])
        kill_after(moment, mesh.sluice_process(*APPLY, *BACKENDS["iptables-nft"]))
        assert (captured_by(mesh), saved(mesh)) in states


def test_many_at_once_with_different_backends_end_in_one(mesh):
    choices = [BACKENDS["nftables"], BACKENDS["iptables-nft"]]
    processes = [mesh.sluice_process(*APPLY, *choices[number % 2]) for number in range(12)]
    results = [(process.communicate(timeout=60), process.returncode) for process in processes]
    assert [(code, said) for said, code in results if code] == []
    assert len(captured_by(mesh)) == 1


@pytest.mark.parametrize("backend", [IPTABLES, LEGACY], ids=["nft", "legacy"])
def test_status_explain_and_verify_read_the_rules_of_either_variant(pod, backend):
    options = ["--inbound-port", "15006", "--exclude-outbound-ports", "443"]
    pod.sluice(*options, *backend)
    status = json.loads(pod.sluice("status", "--format", "json").stdout)
    assert status["backend"] == f"iptables ({backend[-1]})"
    assert status["exact"] and status["warnings"] == []
    assert status["configuration"] == {"backend": "iptables", "inbound-port": "15006", "exclude-outbound-ports": "443"}

    for port, rule in (("80", "outbound"), ("443", "exclude-port")):
        answer = json.loads(pod.sluice("explain", "--live", "--dst", f"198.18.0.1:{port}", "--format", "json").stdout)
        assert (answer["rule"], answer["certain"]) == (rule, True)

    assert json.loads(pod.sluice("verify", *options, *backend, "--format", "json").stdout)["match"]
    program = "iptables-legacy" if backend is LEGACY else "iptables"
    run(pod, program, "-t", "nat", "-D", "SLUICE_OUTBOUND", "2")
    found = pod.sluice("verify", *options, *backend, "--format", "json", check=False)
    assert found.returncode == 3
    drift = json.loads(found.stdout)["drift"]
    assert [(d["rule"], d["table"], d["chain"], d["kind"]) for d in drift] == [
        ("exclude-port", "ip nat", "SLUICE_OUTBOUND", "missing")
    ]
