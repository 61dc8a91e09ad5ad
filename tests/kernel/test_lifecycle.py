"""The life of a set of rules: apply, apply again, replace, clean up, and what is captured meanwhile."""

import json
import subprocess
import time

import pytest

from pod import APPLY, FAMILIES, IPV4, IPV6, OTHER_OUTBOUND_PORT, PROXY_UID, address, run

FOREIGN = """
table inet foreign {
    set known { type ipv4_addr; flags interval; elements = { 192.0.2.0/24 } }
    counter seen { packets 3 bytes 180; }
    chain input {
        type filter hook input priority 5; policy accept;
        ip saddr @known drop
    }
}
table ip nat {
    chain output {
        type nat hook output priority -100; policy accept;
        tcp dport 7 redirect to :7777
    }
}
"""

# Enough of the options to meet every kind of rule and set.
CONFIGURATIONS = {
    "defaults": (),
    "lists": (
        "--exclude-outbound-ports", "22,8000-8100,8443", "--exclude-outbound-cidrs", "10.0.0.0/8,192.0.2.7,fd00::/8",
        "--outbound-ports", "80,443", "--outbound-cidrs", "198.18.0.0/15,2001:db8::/32", "--proxy-uid", "1337,1338",
        "--inbound-ports", "80,5000-5010", "--exclude-inbound-ports", "5001", "--exclude-interfaces", "net1,docker+",
        "--exclude-inbound-cidrs", "10.9.0.9,fd00:9::9",
    ),
    "lists-of-one": (
        "--exclude-outbound-ports", "22", "--exclude-outbound-cidrs", "10.0.0.0/8", "--tunnel-ports", "15008",
    ),
    "owners": (
        "--proxy-gid", "1337,1400", "--exclude-uids", "100-200,300", "--exclude-gids", "50",
        "--exclude-outbound-ports-for-uids", "tcp:3306,5432:1000-1010", "--proxy-mark", "0x539/0xfff",
    ),
    "istio-like": ("--hairpin", "inbound", "--passthrough-source", "127.0.0.6,::6", "--loopback-cidr", "127.0.0.1/32"),
    "preset-istio": ("--preset", "istio"),
    "dns": ("--dns", "all", "--exclude-outbound-ports", "22"),
    "tproxy": ("--inbound-mode", "tproxy"),
    "udp": ("--udp", "reject:443", "--drop-invalid"),
    "ipv4-only": ("--ip-family", "ipv4", "--other-family", "reject"),
    "nested": ("--virtual-interfaces", "vm0,tap*", "--forwarded", "capture", "--proxy-port-access", "capture"),
}  # fmt: skip


@pytest.fixture(params=CONFIGURATIONS.values(), ids=CONFIGURATIONS.keys())
def configuration(request):
    return request.param


# ---------------------------------------------------------------------------------------- what is captured


def test_nothing_is_captured_before_apply(mesh, family):
    # If this fails, none of the other tests means anything.
    assert mesh.app.name_at(family.outside, 80) == "world"
    assert mesh.world.name_at(family.pod, 5000) == "app"


def test_the_application_is_captured_and_the_proxy_learns_the_destination(mesh, family):
    mesh.sluice(*APPLY)
    answer = mesh.app.ask(family.outside, 80)
    assert (answer.name, answer.original) == ("outbound", address(family.outside, 80))


def test_root_is_an_application_like_any_other(mesh, family):
    mesh.sluice(*APPLY)
    assert mesh.root.name_at(family.outside, 80) == "outbound"


def test_the_proxy_itself_goes_direct(mesh, family):
    mesh.sluice(*APPLY)
    assert mesh.proxy.name_at(family.outside, 80) == "world"


def test_outside_is_captured_on_its_way_in(mesh, family):
    mesh.sluice(*APPLY)
    answer = mesh.world.ask(family.pod, 5000)
    assert (answer.name, answer.original) == ("inbound", address(family.pod, 5000))


def test_inbound_goes_to_the_proxy_port_when_no_other_is_named(mesh, family):
    mesh.sluice("apply")
    assert mesh.world.name_at(family.pod, 5000) == "outbound"


def test_the_pod_talking_to_itself_stays_direct(mesh, family):
    mesh.sluice(*APPLY)
    assert mesh.app.name_at(family.loopback, 5000) == "app"
    assert mesh.app.name_at(family.pod, 5000) == "app"


def test_the_proxy_reaches_its_application(mesh, family):
    mesh.sluice(*APPLY)
    assert mesh.proxy.name_at(family.pod, 5000) == "app"
    assert mesh.proxy.name_at(family.loopback, 5000) == "app"


# ------------------------------------------------------------------------------------------- what is not


def test_an_excluded_port_goes_direct_and_its_neighbours_do_not(mesh, family):
    mesh.sluice(*APPLY, "--exclude-outbound-ports", "443,8000-8079")
    assert mesh.app.name_at(family.outside, 443) == "world"
    assert mesh.app.name_at(family.outside, 80) == "outbound"
    assert mesh.app.name_at(family.outside, 8080) == "outbound"


def test_an_excluded_cidr_goes_direct(mesh, family):
    mesh.sluice(*APPLY, "--exclude-outbound-cidrs", ",".join(each.other_cidr for each in FAMILIES))
    assert mesh.app.name_at(family.other, 80) == "world"
    assert mesh.app.name_at(family.outside, 80) == "outbound"


def test_every_listed_proxy_user_goes_direct(mesh, family):
    mesh.sluice(*APPLY, "--proxy-uid", f"{PROXY_UID},3000")
    assert mesh.user(3000).name_at(family.outside, 80) == "world"
    assert mesh.proxy.name_at(family.outside, 80) == "world"
    assert mesh.app.name_at(family.outside, 80) == "outbound"


def test_an_excluded_inbound_port_goes_direct(mesh, family):
    mesh.sluice(*APPLY, "--exclude-inbound-ports", "5001")
    assert mesh.world.name_at(family.pod, 5001) == "app"
    assert mesh.world.name_at(family.pod, 5000) == "inbound"


def test_a_tunnel_port_is_the_proxys_own(mesh, family):
    mesh.sluice(*APPLY, "--tunnel-ports", "15008")
    assert mesh.world.name_at(family.pod, 15008) == "app"
    assert mesh.world.name_at(family.pod, 5000) == "inbound"


def test_an_excluded_interface_goes_direct_both_ways_even_if_it_comes_later(mesh):
    mesh.sluice(*APPLY, "--exclude-interfaces", "net1")
    mesh.ip(
        f"link add net1 type veth peer name net1 netns {mesh.world_name}",
        "addr add 10.10.0.2/24 dev net1",
        "addr add fd00:10::2/64 dev net1 nodad",
        "link set net1 up",
    )
    mesh.ip(
        "addr add 10.10.0.1/24 dev net1",
        "addr add fd00:10::1/64 dev net1 nodad",
        "link set net1 up",
        netns=mesh.world_name,
    )
    for world, own in (("10.10.0.1", "10.10.0.2"), ("fd00:10::1", "fd00:10::2")):
        assert mesh.app.name_at(world, 80) == "world"
        assert mesh.world.name_at(own, 5000) == "app"
    for family in FAMILIES:
        assert mesh.app.name_at(family.world, 80) == "outbound"
        assert mesh.world.name_at(family.pod, 5000) == "inbound"


def test_one_family_can_be_captured_alone(mesh):
    mesh.sluice(*APPLY, "--ip-family", "ipv4")
    assert mesh.app.name_at(IPV4.outside, 80) == "outbound"
    assert mesh.world.name_at(IPV4.pod, 5000) == "inbound"
    assert mesh.app.name_at(IPV6.outside, 80) == "world"
    assert mesh.world.name_at(IPV6.pod, 5000) == "app"


def test_a_connection_opened_before_apply_stays_as_it_is(mesh, family):
    going_out, _ = mesh.app.hold(family.outside, 80)
    coming_in, _ = mesh.world.hold(family.pod, 5000)
    mesh.sluice(*APPLY)
    assert mesh.app.echo_on(going_out, "still there") == "still there"
    assert mesh.world.echo_on(coming_in, "still there") == "still there"
    assert mesh.app.name_at(family.outside, 80) == "outbound"


# ----------------------------------------------------------------------------------- again, and otherwise


def test_apply_says_in_one_line_what_it_did(mesh):
    said = mesh.sluice(*APPLY).stdout
    assert said.count("\n") == 1
    assert "nftables" in said
    # The command that shows the rules, so that the reader need not know where to look.
    assert "nft list table inet sluice" in said or "sluice status" in said


def test_a_first_apply_is_one_transaction(mesh):
    before = mesh.generation()
    mesh.sluice(*APPLY)
    assert mesh.generation() == before + 1


def test_a_second_identical_apply_sends_no_transaction(mesh, configuration):
    first = mesh.sluice(*APPLY, *configuration)
    generation, rules = mesh.generation(), mesh.listing()
    second = mesh.sluice(*APPLY, *configuration)
    assert mesh.generation() == generation
    assert mesh.listing() == rules
    assert first.stdout.startswith("nftables, rules created: ")
    assert second.stdout == first.stdout.replace("created", "unchanged", 1)


def test_another_configuration_replaces_the_rules_in_one_transaction(mesh, family):
    mesh.sluice(*APPLY, "--exclude-outbound-ports", "443")
    generation = mesh.generation()
    mesh.sluice(*APPLY, "--exclude-outbound-ports", "80")
    assert mesh.generation() == generation + 1
    assert mesh.app.name_at(family.outside, 443) == "outbound"
    assert mesh.app.name_at(family.outside, 80) == "world"


def test_a_replacement_lists_the_same_as_a_first_apply(mesh, configuration):
    mesh.sluice(*APPLY, *configuration)
    fresh = mesh.rules()
    mesh.sluice("apply", "--proxy-port", "4000", "--exclude-outbound-ports", "1-9", "--hairpin", "inbound")
    assert mesh.rules() != fresh
    mesh.sluice(*APPLY, *configuration)
    assert mesh.rules() == fresh


def test_other_peoples_tables_survive_everything(mesh):
    mesh.nft("-f", "-", stdin=FOREIGN)
    before = mesh.ruleset()
    mesh.sluice(*APPLY)
    with_ours = mesh.ruleset()
    assert before.strip() in with_ours
    mesh.sluice(*APPLY, "--exclude-outbound-ports", "443")
    assert before.strip() in mesh.ruleset()
    mesh.sluice("cleanup")
    assert mesh.ruleset() == before


NEARLY_OURS = """
table inet sluice2 {
	chain outbound {
		type nat hook output priority 10; policy accept;
		tcp dport 7 counter packets 1 bytes 60 redirect to :15001 comment "outbound"
	}
}
table ip sluice {
	chain outbound {
		tcp dport 7 counter packets 2 bytes 120 accept
	}
}
table ip nat {
	chain MY_SLUICE_OUTBOUND {
		tcp dport 7 counter packets 3 bytes 180 accept
	}
	chain SLUICEBOX {
		tcp dport 7 counter packets 4 bytes 240 accept
	}
}
"""


@pytest.mark.parametrize("backend", ["nftables", "iptables"])
def test_what_is_only_called_nearly_like_ours_survives(pod, backend):
    pod.nft("-f", "-", stdin=NEARLY_OURS)
    before = pod.ruleset()
    assert "nothing of sluice is here" in pod.sluice("cleanup").stdout
    for options in ((), ("--proxy-port", "4000")):
        pod.sluice(*APPLY, "--backend", backend, *options)
    pod.sluice("cleanup")
    assert pod.ruleset() == before


def test_no_connection_escapes_while_rules_are_replaced(mesh):
    one = (*APPLY, "--exclude-outbound-ports", "9001")
    other = (*APPLY, "--proxy-port", OTHER_OUTBOUND_PORT, "--exclude-outbound-cidrs", "203.0.113.0/24")
    mesh.sluice(*one)
    generation = mesh.generation()
    outward = [(family.outside, 80) for family in FAMILIES]
    inward = [(family.pod, 5000) for family in FAMILIES]
    with mesh.app.stream(outward) as from_the_pod, mesh.world.stream(inward) as from_outside:
        for _ in range(25):
            mesh.sluice(*other)
            mesh.sluice(*one)
    assert mesh.generation() == generation + 50
    assert set(from_the_pod) == {"outbound"}, from_the_pod
    assert set(from_outside) == {"inbound"}, from_outside
    # Otherwise the streams were too thin to prove anything.
    assert from_the_pod["outbound"] > 50 and from_outside["inbound"] > 50


def test_many_at_once_all_succeed_and_leave_one_set_of_rules(mesh):
    configurations = [
        (*APPLY, "--exclude-outbound-ports", "443"),
        (*APPLY, "--exclude-outbound-cidrs", "203.0.113.0/24"),
    ]
    acceptable = []
    for configuration in configurations:
        mesh.sluice(*configuration)
        acceptable.append(mesh.rules())
    mesh.sluice("cleanup")

    processes = [mesh.sluice_process(*configurations[number % 2]) for number in range(16)]
    results = [(process.communicate(timeout=30), process.returncode) for process in processes]
    assert [code for _, code in results] == [0] * 16, results
    assert mesh.rules() in acceptable


def moments_of(command, number):
    """Moments spread over the time that a command takes from its start to its end."""
    started = time.monotonic()
    command()
    duration = time.monotonic() - started
    return [duration * step / number for step in range(number)]


def kill_after(seconds, process):
    with process:
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()


def test_a_kill_at_any_moment_leaves_the_old_rules_or_the_new(mesh):
    old, new = APPLY, (*APPLY, "--exclude-outbound-ports", "443", "--exclude-outbound-cidrs", "203.0.113.0/24")
    mesh.sluice(*new)
    new_rules = mesh.rules()
    mesh.sluice(*old)
    old_rules = mesh.rules()

    for moment in moments_of(lambda: mesh.sluice(*old), 40):
        kill_after(moment, mesh.sluice_process(*new))
        assert mesh.rules() in (old_rules, new_rules)
        mesh.sluice(*old)
        assert mesh.rules() == old_rules


def test_a_kill_of_the_first_apply_leaves_nothing_or_everything(mesh):
    mesh.sluice(*APPLY)
    complete = mesh.rules()
    mesh.sluice("cleanup")
    for moment in moments_of(lambda: mesh.sluice("plan", *APPLY[1:]), 40):
        kill_after(moment, mesh.sluice_process(*APPLY))
        assert mesh.ruleset() == "" or mesh.rules() == complete
        mesh.sluice("cleanup")
        assert mesh.ruleset() == ""


# ------------------------------------------------------------------------------------------------ cleanup


def test_cleanup_ends_the_capture(mesh, family):
    mesh.sluice(*APPLY)
    mesh.sluice("cleanup")
    assert mesh.app.name_at(family.outside, 80) == "world"
    assert mesh.world.name_at(family.pod, 5000) == "app"


def test_cleanup_leaves_nothing_of_any_configuration_behind(mesh, configuration):
    before = mesh.state()
    mesh.sluice(*APPLY, *configuration)
    assert mesh.state() != before
    mesh.sluice("cleanup")
    assert mesh.state() == before


def test_a_second_cleanup_finds_nothing_and_succeeds(mesh):
    mesh.sluice(*APPLY)
    mesh.sluice("cleanup")
    generation = mesh.generation()
    mesh.sluice("cleanup")
    assert mesh.generation() == generation


def test_cleanup_tells_programs_what_it_removed(mesh):
    mesh.sluice(*APPLY)
    for dry_run in (True, False):
        told = mesh.sluice("cleanup", "--format", "json", *["--dry-run"] * dry_run)
        assert json.loads(told.stdout) == {"dry_run": dry_run, "removed": ["table inet sluice"]}
    assert json.loads(mesh.sluice("cleanup", "--format", "json").stdout) == {"dry_run": False, "removed": []}


# ------------------------------------------------------------------------------------- beside and without nft


def test_a_table_that_crashes_nft_does_not_matter(mesh, family):
    mesh.root.add_unreadable_set("alien", "unreadable")
    alien = mesh.root.table_dump("alien")
    if mesh.nft("list", "ruleset", check=False).returncode == 0:
        print("note: this nft reads what older ones crash on, so the test shows less here")

    mesh.sluice(*APPLY)
    assert mesh.app.name_at(family.outside, 80) == "outbound"
    generation = mesh.generation()
    mesh.sluice(*APPLY)
    for command in ("verify", "doctor", "status"):
        mesh.sluice(command, *(APPLY[1:] if command != "status" else ()))
    mesh.sluice("explain", "--live", "--dst", "198.18.0.10:80")
    assert mesh.generation() == generation
    mesh.sluice(*APPLY, "--exclude-outbound-ports", "80")
    assert mesh.app.name_at(family.outside, 80) == "world"
    mesh.sluice("cleanup")
    assert mesh.app.name_at(family.outside, 443) == "world"
    assert mesh.root.table_dump("alien") == alien


def test_no_program_in_the_path_is_needed(mesh, family):
    nowhere = {"PATH": "/nonexistent"}
    mesh.sluice(*APPLY, env=nowhere)
    assert mesh.app.name_at(family.outside, 80) == "outbound"
    mesh.sluice("cleanup", env=nowhere)
    assert mesh.app.name_at(family.outside, 80) == "world"


def test_nft_loads_what_it_lists(mesh, configuration):
    mesh.sluice(*APPLY, *configuration)
    listed = mesh.listing()
    mesh.nft("delete", "table", "inet", "sluice")
    mesh.nft("-f", "-", stdin=listed)
    assert mesh.listing() == listed


def test_the_plan_loaded_by_nft_is_what_apply_makes(mesh, configuration):
    plan = mesh.sluice("plan", *APPLY[1:], *configuration).stdout
    mesh.nft("-f", "-", stdin=plan, netns=mesh.world_name)
    mesh.sluice(*APPLY, *configuration)
    assert mesh.rules(mesh.world_name) == mesh.rules()


def test_a_plan_touches_nothing(mesh, configuration):
    """Rules, addresses, routes and settings."""
    seconds = "net.netfilter.nf_conntrack_tcp_timeout_close_wait"
    before = mesh.state(), mesh.generation(), run(["sysctl", "-n", seconds], mesh.name).stdout
    assert before[0]["rules"] == ""
    for command in ("plan", "--dry-run"):
        mesh.sluice(command, *APPLY[1:], *configuration, "--close-wait-timeout", "3599")
    assert (mesh.state(), mesh.generation(), run(["sysctl", "-n", seconds], mesh.name).stdout) == before


# --------------------------------------------------------------------------- where to, and where options come from


@pytest.mark.parametrize("form", ["path", "name", "pid", "path-of-a-process"])
def test_another_namespace_can_be_named(mesh, form):
    # Started in WORLD, never in the machine's own namespace: a `--netns` that is ignored must do no harm.
    netns = {
        "path": f"/run/netns/{mesh.name}",
        "name": mesh.name,
        "pid": str(mesh.app.pid),
        "path-of-a-process": f"/proc/{mesh.app.pid}/ns/net",
    }[form]
    mesh.sluice(*APPLY, "--netns", netns, netns=mesh.world_name)
    assert mesh.ruleset(mesh.world_name) == ""
    assert mesh.app.name_at(IPV4.outside, 80) == "outbound"
    mesh.sluice("cleanup", "--netns", netns, netns=mesh.world_name)
    assert mesh.ruleset() == ""


OPTIONS = {
    "proxy-port": "15101",
    "exclude-outbound-ports": "22,8000-8100",
    "exclude-outbound-cidrs": "10.0.0.0/8,fd00::/8",
    "hairpin": "inbound",
}


def as_flags(options):
    return [word for name, value in options.items() for word in (f"--{name}", value)]


def as_environment(options):
    return {"SLUICE_" + name.upper().replace("-", "_"): value for name, value in options.items()}


def as_file(pod, options):
    path = pod.scratch / "sluice.toml"
    path.write_text("".join(f'{name} = "{value}"\n' for name, value in options.items()))
    return ["--config", str(path)]


def test_flags_environment_and_file_make_the_same_plan(pod):
    by_flags = pod.sluice("plan", *as_flags(OPTIONS)).stdout
    assert "15101" in by_flags
    assert pod.sluice("plan", env=as_environment(OPTIONS)).stdout == by_flags
    assert pod.sluice("plan", *as_file(pod, OPTIONS)).stdout == by_flags


def test_a_list_in_the_file_may_be_a_list(pod):
    path = pod.scratch / "lists.toml"
    path.write_text('exclude-outbound-ports = ["22", "8000-8100"]\n')
    by_flags = pod.sluice("plan", "--exclude-outbound-ports", "22,8000-8100").stdout
    assert pod.sluice("plan", "--config", path).stdout == by_flags


def test_a_flag_beats_the_environment_which_beats_the_file(pod):
    def plan_for(port):
        return pod.sluice("plan", "--proxy-port", port).stdout

    file = as_file(pod, {"proxy-port": "15101"})
    environment = {"SLUICE_PROXY_PORT": "15102"}
    assert pod.sluice("plan", *file).stdout == plan_for(15101)
    assert pod.sluice("plan", *file, env=environment).stdout == plan_for(15102)
    assert pod.sluice("plan", *file, "--proxy-port", "15103", env=environment).stdout == plan_for(15103)
