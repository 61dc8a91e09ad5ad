"""What sluice may do and what it does with it: capabilities, no_new_privs, the seccomp filter, user namespaces, bare containers.

That a forbidden call ends the process, call by call, is in tests/netfilter/seccomp_test.cpp.
"""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess

import pytest

import containers
import pod as pods

NET_ADMIN = 1 << 12
FILTERED = "debug: a seccomp filter holds from here on"
NO_PROGRAMS = {"PATH": "/nonexistent"}
FIRST_ID = 500_000


@pytest.fixture(scope="module")
def has_filter(sluice, namespaces):
    """Whether this sluice was built with the filter; the sanitizers' is not."""
    with pods.Pod() as pod:
        told = pod.sluice("--log-level", "debug", env=NO_PROGRAMS).stderr
    if "built without one" in told:
        pytest.skip("this sluice was built without a seccomp filter")
    assert FILTERED in told


def traced(pod, arguments, *options, env=None):
    if not shutil.which("strace"):
        pytest.skip("needs the program strace")
    return pods.run(["strace", "-qq", *options, pods.sluice_binary(), *arguments], pod.name, env=env or {})


def in_pod(pod, *command, env=None):
    return pods.run(command, pod.name, env=env or {"PATH": os.environ["PATH"]})


# --------------------------------------------------------------------------------------------------- the filter

CONFIGURATIONS = [
    [],
    ["--inbound-port", "15006", "--exclude-outbound-cidrs", "10.0.0.0/8,fd00::/8", "--exclude-inbound-ports", "80-90,443"],
    ["--preset", "istio"],
    ["--inbound-mode", "tproxy", "--passthrough-source", "127.0.0.6,::6"],
    ["--dns", "all", "--drop-invalid", "--udp", "reject:443"],
    ["--dns", "resolv-conf", "--proxy-uid", "root,1337", "--proxy-gid", "root", "--close-wait-timeout", "3600"],
    ["--ip-family", "ipv4", "--other-family", "reject"],
    ["--backend", "iptables", "--iptables-variant", "nft", "--dns", "all"],
    ["--backend", "iptables", "--iptables-variant", "nft", "--inbound-mode", "tproxy", "--close-wait-timeout", "3600"],
]
COMMANDS = [
    *(["status", "--format", form] for form in ("text", "json", "nft")),
    ["verify"], ["verify", "--format", "json"], ["plan", "--diff"], ["doctor"], ["doctor", "--format", "json"],
    ["explain", "--live", "--dst", "198.18.0.10:80"], ["cleanup", "--dry-run"],
]


@pytest.mark.parametrize("options", CONFIGURATIONS, ids=" ".join)
def test_every_command_works_under_the_filter(pod, has_filter, options):
    """Without iptables' programs on the machine the filter holds before the kernel is first asked about rules."""
    def run(*arguments, expected=0):
        done = pod.sluice(*arguments, "--log-level", "debug", env=NO_PROGRAMS, check=False)
        assert done.returncode == expected, (arguments, done)
        if arguments[0] != "doctor":
            assert done.stderr.count(FILTERED) == 1, (arguments, done.stderr)

    own = [option for option in options if option not in ("--close-wait-timeout", "3600")]
    run("apply", *options)
    run("apply", *options)
    for command in COMMANDS:
        run(*command, *([] if command[0] in ("status", "cleanup") else own))
    run("plan", "--diff", *own, "--proxy-port", "4000", expected=3)
    run("apply", "--proxy-port", "4000")
    run("cleanup")
    run("verify", *own, expected=3)
    run("status")


def test_large_lists_and_time_stamps_work_under_the_filter(pod, has_filter):
    """Memory that grows, a send buffer that is widened, a log line in JSON with its time."""
    config = pod.scratch / "large.toml"
    addresses = ",".join(f"10.{n >> 8 & 255}.{n & 255}.0/25" for n in range(20_000))
    config.write_text(f'exclude-outbound-cidrs = "{addresses}"\n')
    for outcome in ("created", "unchanged"):
        done = pod.sluice("--config", config, "--log-format", "json", "--log-level", "debug", env=NO_PROGRAMS)
        assert outcome in done.stdout
        assert json.loads(done.stderr.splitlines()[0])["message"] == FILTERED.removeprefix("debug: ")


def test_mistakes_and_refusals_are_told_under_the_filter(pod, has_filter):
    assert pod.sluice("verify", env=NO_PROGRAMS, check=False).returncode == 3
    legacy = pod.sluice("--backend", "iptables", "--iptables-variant", "legacy", "--log-level", "debug", env=NO_PROGRAMS, check=False)
    assert legacy.returncode == 4
    assert FILTERED in legacy.stderr and "find the program" in legacy.stderr
    full = in_pod(pod, "sh", "-c", f"exec {pods.sluice_binary()} status >/dev/full", env={"PATH": "/nonexistent"})
    assert full.returncode == 1 and "No space left" in full.stderr


def positions(trace):
    calls = trace.read_text().splitlines()
    filters = [number for number, call in enumerate(calls) if "PR_SET_SECCOMP" in call]
    asked = [number for number, call in enumerate(calls) if "sendto(" in call and "NFNL_SUBSYS_NFTABLES" in call]
    return filters, asked


def test_the_filter_holds_before_netfilter_is_spoken_to(pod, has_filter, tmp_path):
    trace = tmp_path / "trace"
    calls = ["-o", str(trace), "-e", "trace=prctl,sendto,capset"]
    for arguments, env in ((["--backend", "nftables"], None), ([], NO_PROGRAMS), (["status"], None), (["cleanup"], None)):
        assert traced(pod, arguments, *calls, env=env).returncode == 0
        filters, asked = positions(trace)
        assert len(filters) == 1 and filters[0] < asked[0], arguments


def test_where_iptables_programs_may_be_the_last_resort_it_holds_once_they_are_not_needed(pod, has_filter, tmp_path):
    if not shutil.which("iptables-legacy-restore"):
        pytest.skip("needs the program iptables-legacy-restore")
    env = {"PATH": os.environ["PATH"]}
    # A first apply has nothing left to do then but to print a line.
    told = pod.sluice("--log-level", "debug", env=env).stderr
    assert "iptables' own programs may have to be started" in told and "backend nftables" in told and FILTERED not in told
    told = pod.sluice("--log-level", "debug", "--proxy-port", "3000", env=env).stderr
    assert told.index("iptables' own programs may have to be started") < told.index("backend nftables") < told.index(FILTERED)
    trace = tmp_path / "trace"
    assert traced(pod, ["--proxy-port", "4000"], "-o", str(trace), "-e", "trace=prctl,sendto,capset", env=env).returncode == 0
    filters, asked = positions(trace)
    assert len(filters) == 1 and filters[0] > asked[0]
    last = [line for line in trace.read_text().splitlines() if "capset(" in line][-1]
    assert "permitted=1<<CAP_NET_ADMIN," in last


def test_the_legacy_variant_runs_without_it(pod, has_filter):
    if not shutil.which("iptables-legacy-restore"):
        pytest.skip("needs the program iptables-legacy-restore")
    env = {"PATH": os.environ["PATH"], "XTABLES_LOCKFILE": str(pod.scratch / "lock")}
    legacy = ["--backend", "iptables", "--iptables-variant", "legacy", "--log-level", "debug"]
    assert FILTERED not in pod.sluice(*legacy, env=env).stderr
    # What is in the old tables can only be taken away by the same programs.
    assert FILTERED not in pod.sluice("status", "--log-level", "debug", env=env).stderr
    told = pod.sluice("--backend", "nftables", "--log-level", "debug", env=env).stderr
    assert told.index("no seccomp filter") < told.index(FILTERED)
    assert FILTERED in pod.sluice("cleanup", "--log-level", "debug", env=env).stderr


@pytest.mark.parametrize("error", ["EINVAL", "ENOSYS"])
def test_a_kernel_without_seccomp_is_no_obstacle(pod, has_filter, error):
    done = traced(pod, ["--backend", "nftables", "--log-level", "debug"], "-o", "/dev/null", "-e", f"inject=prctl:error={error}:when=2")
    assert done.returncode == 0, done
    assert "debug: no seccomp filter: the kernel does not take it" in done.stderr


@pytest.mark.parametrize("given", [[], ["setpriv", "--inh-caps=+net_admin,+net_raw", "--ambient-caps=+net_admin,+net_raw"]])
def test_seen_from_outside_it_has_net_admin_and_no_more(pod, has_filter, given):
    """It waits here for somebody to read what it prints."""
    pod.sluice()
    reading, writing = os.pipe()
    try:
        os.set_blocking(writing, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writing, b"x" * 4096)
        os.set_blocking(writing, True)
        process = pods.spawn([*given, pods.sluice_binary(), "status"], pod.name, env={}, stdout=writing)
        status = pathlib.Path(f"/proc/{process.pid}/status")

        def fields():
            return dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)

        pods.wait_until(lambda: fields()["Seccomp"] == "2", "sluice under its filter", timeout=30)
        seen = fields()
        assert seen["NoNewPrivs"] == "1"
        assert {name: int(seen[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {
            "CapInh": 0, "CapPrm": NET_ADMIN, "CapEff": NET_ADMIN, "CapAmb": 0}
        os.close(writing)
        writing = None
        while os.read(reading, 1 << 16):
            pass
        assert process.wait(timeout=30) == 0
    finally:
        os.close(reading)
        if writing is not None:
            os.close(writing)


# ------------------------------------------------------------------------------------ in a container, by runc itself

SHORT = "the capability CAP_NET_ADMIN is missing: "
# Each a container: user, allowPrivilegeEscalation: false, what the program file has, what the runtime gives; and the end.
CONTAINERS = {
    "root": ((0, True, None, ["cap"]), 0, ""),
    "root, not added": ((0, True, None, []), 4, SHORT + "it is in none of this process's capability sets"),
    "user": ((65534, True, None, ["cap"]), 4, SHORT + "it is in the bounding set only: user 65534 gets none"),
    "user, escalation allowed": ((65534, False, None, ["cap"]), 4, SHORT + "it is in the bounding set only: user 65534 gets none"),
    "user, file =p": ((65534, True, "cap_net_admin=p", ["cap"]), 0, ""),
    "user, file =ep": ((65534, True, "cap_net_admin=ep", ["cap"]), 0, ""),
    "user, file =p, escalation allowed": ((65534, False, "cap_net_admin=p", ["cap"]), 0, ""),
    "user, file =p, not added": ((65534, True, "cap_net_admin=p", []), 4, SHORT + "it is in none of this process's capability sets"),
    "user, file =ep, not added": ((65534, True, "cap_net_admin=ep", []), 1, "exec /sluice: operation not permitted"),
    "user, file =ei, inheritable": ((65534, True, "cap_net_admin=ei", ["cap", "inheritable"]), 0, ""),
    "user, ambient": ((65534, True, None, ["cap", "inheritable", "ambient"]), 0, ""),
}


@pytest.fixture(scope="module")
def root_folder(sluice, namespaces, tmp_path_factory):
    """A root file system with sluice, the libraries it needs, and nothing else."""
    root = tmp_path_factory.mktemp("root")
    root.chmod(0o755)
    for file in containers.libraries_of(sluice):
        target = root / file.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    return root


def container(pod, root, user, escalation_forbidden, on_file, given):
    for program in ("runc", "setcap"):
        if not shutil.which(program):
            pytest.skip(f"needs the program {program}")
    shutil.copy(pods.sluice_binary(), root / "sluice")
    if on_file:
        subprocess.run(["setcap", on_file, root / "sluice"], check=True)
    kinds = {"cap": ("bounding", "permitted", "effective"), "inheritable": ("inheritable",), "ambient": ("ambient",)}
    mounts = [{"destination": "/proc", "type": "proc", "source": "proc", "options": ["ro", "nosuid", "noexec", "nodev"]}]
    name = f"{pod.name}-runc"
    spec = {
        "ociVersion": "1.0.2",
        "process": {
            "args": ["/sluice"], "cwd": "/", "env": [], "noNewPrivileges": escalation_forbidden,
            "user": {"uid": user, "gid": user},
            "capabilities": {kind: ["CAP_NET_ADMIN"] for key in given for kind in kinds[key]},
        },
        "root": {"path": str(root), "readonly": True},
        "mounts": mounts,
        "linux": {
            "cgroupsPath": f"/{name}",
            "namespaces": [{"type": "network", "path": f"/run/netns/{pod.name}"}] + [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")],
        },
    }
    (pod.scratch / "config.json").write_text(json.dumps(spec))
    return subprocess.run(["runc", "--root", pod.scratch / "runc", "run", "--bundle", pod.scratch, name], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("case", CONTAINERS)
def test_which_containers_it_works_in(pod, root_folder, case):
    settings, status, text = CONTAINERS[case]
    before = pod.generation()
    done = container(pod, root_folder, *settings)
    assert done.returncode == status, done
    assert text in done.stderr, done
    assert pod.generation() == before + (status == 0)


def test_the_table_in_privileges_md_is_what_was_found():
    text = (pathlib.Path(__file__).resolve().parents[2] / "docs" / "privileges.md").read_text()
    rows = text[text.index("| user | "):].split("\n\n")[0].splitlines()[2:]
    assert len(rows) == len(CONTAINERS)
    for row, ((user, escalation_forbidden, on_file, given), status, words) in zip(rows, CONTAINERS.values()):
        told = [
            "0" if user == 0 else "65534",
            "false" if escalation_forbidden else "true",
            f"`{on_file.removeprefix('cap_net_admin')}`" if on_file else "",
            ", ".join({"cap": "`add: [NET_ADMIN]`"}.get(what, f"also {what}") for what in given),
        ]
        assert [cell.strip() for cell in row.strip("|").split("|")][:4] == told
        assert ("works" in row) == (status == 0), row
        assert words.removeprefix(SHORT) in row, row


# ----------------------------------------------------------------------------------------- other ways to lack it


@pytest.fixture
def copy_with(pod):
    """A copy of the program with capabilities of its own."""
    if not shutil.which("setcap"):
        pytest.skip("needs the program setcap")
    copy = pod.scratch / "sluice"
    shutil.copy(pods.sluice_binary(), copy)
    copy.chmod(0o755)

    def make(capabilities):
        subprocess.run(["setcap", capabilities, copy], check=True)
        return str(copy)

    return make


AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


@pytest.mark.parametrize("capabilities", ["cap_net_admin=p", "cap_net_admin=ep"])
def test_what_is_permitted_is_put_into_effect(pod, copy_with, capabilities):
    done = in_pod(pod, *AS_NOBODY, copy_with(capabilities))
    assert done.returncode == 0, done


def refused(pod, *command):
    before = pod.generation()
    done = in_pod(pod, *command)
    assert done.returncode == 4, done
    assert SHORT in done.stderr and "hint: " in done.stderr
    assert pod.generation() == before
    return done.stderr


def test_a_file_capability_withheld_by_no_new_privs_is_told(pod, copy_with):
    """The shell, a program without capabilities of its own, is where the container's got lost."""
    told = refused(pod, *AS_NOBODY, "--no-new-privs", "sh", "-c", f"exec {copy_with('cap_net_admin=p')}")
    assert "no_new_privs was set by a process without it (allowPrivilegeEscalation: false)" in told


def test_a_file_capability_on_a_nosuid_file_system_is_told(pod, copy_with):
    program = copy_with("cap_net_admin=p")
    script = f"mount -t tmpfs -o nosuid tmpfs /mnt && cp {program} /mnt/sluice && setcap cap_net_admin=p /mnt/sluice && exec {' '.join(AS_NOBODY)} /mnt/sluice"
    assert "mounted nosuid" in refused(pod, "unshare", "-m", "sh", "-ec", script)


def test_root_that_gave_it_up_is_told(pod):
    told = refused(pod, "setpriv", "--securebits=+noroot", "--inh-caps=-all", pods.sluice_binary())
    assert "although this is user 0" in told


def test_doctor_says_the_same(pod):
    done = in_pod(pod, *AS_NOBODY, pods.sluice_binary(), "doctor", "--format", "json")
    findings = {finding["check"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert done.returncode == 4
    assert findings["capability"]["severity"] == "error"
    assert "user 65534 gets none" in findings["capability"]["detail"]


@pytest.mark.parametrize("call, error, first", [("sendto", "EACCES", 1), ("sendto", "EACCES", 2), ("sendto", "EPERM", 2), ("socket", "EACCES", 1)])
def test_a_denial_by_a_security_module_is_told_from_a_missing_capability(pod, call, error, first):
    """SELinux answers EACCES to what it does not allow; here strace does."""
    before = pod.generation()
    done = traced(pod, [], "-o", "/dev/null", "-e", f"inject={call}:error={error}:when={first}+")
    assert done.returncode == 4, done
    assert "a security module says no" in done.stderr
    assert pod.generation() == before


# ------------------------------------------------------------------------------------------------ user namespaces


@pytest.fixture
def user_pod(sluice):
    """A pod as with hostUsers: false, the proxy and the application in it under their IDs of the node."""
    with pods.Pod(first_id=FIRST_ID) as pod:
        pod.world.serve("world", 80)
        pod.user(FIRST_ID + pods.PROXY_UID).serve("proxy", pods.OUTBOUND_PORT)
        yield pod


def inside(pod, *arguments):
    """As the pod's root, with CAP_NET_ADMIN of the pod's user namespace and nothing else, but what iptables-legacy needs."""
    legacy = "legacy" in arguments or "cleanup" in arguments
    capabilities = "-all,+net_admin" + ",+net_raw" * legacy
    # Opened here: the pod's root may not come to where the program lies.
    binary = os.open(pods.sluice_binary(), os.O_RDONLY)
    try:
        return subprocess.run(
            ["nsenter", "--user", "--net", f"--target={pod.holder}", "--setuid=0", "--setgid=0",
             "setpriv", f"--bounding-set={capabilities}", "--inh-caps=-all", f"/proc/self/fd/{binary}", *arguments],
            pass_fds=(binary,), capture_output=True, text=True, env=legacy_environment(pod), timeout=60, check=False)
    finally:
        os.close(binary)


def outside(pod, *arguments):
    return subprocess.run([pods.sluice_binary(), *arguments, f"--netns={pod.name}"], capture_output=True, text=True,
                          env=legacy_environment(pod), timeout=60, check=False)


def legacy_environment(pod):
    """With a lock that both the pod's root and the node's may take."""
    lock = pod.scratch / "lock"
    if not lock.exists():
        lock.touch()
        lock.chmod(0o666)
    return {"PATH": os.environ["PATH"], "XTABLES_LOCKFILE": str(lock)}


VARIANTS = [["--backend", "nftables"], ["--backend", "iptables", "--iptables-variant", "nft"],
            ["--backend", "iptables", "--iptables-variant", "legacy"]]


@pytest.mark.parametrize("way", [inside, outside])
@pytest.mark.parametrize("options", VARIANTS, ids=lambda options: options[-1])
def test_in_a_user_namespace_the_ids_are_those_of_the_pod(user_pod, way, options):
    done = way(user_pod, *options)
    assert done.returncode == 0, done
    for family in pods.FAMILIES:
        assert user_pod.user(FIRST_ID + pods.APP_UID).name_at(family.outside, 80) == "proxy"
        assert user_pod.user(FIRST_ID + pods.PROXY_UID).name_at(family.outside, 80) == "world"
        # The node's user of that number is nobody in the pod.
        assert user_pod.user(pods.PROXY_UID).name_at(family.outside, 80) == "proxy"
    assert "unchanged" in way(user_pod, *options).stdout
    for look in (inside, outside):
        assert look(user_pod, "verify", *options).returncode == 0
    assert "--proxy-uid" not in outside(user_pod, "status").stdout
    assert "removed: " in way(user_pod, "cleanup").stdout
    assert user_pod.user(FIRST_ID + pods.APP_UID).name_at(pods.IPV4.outside, 80) == "world"
    assert "nothing of sluice is here" in inside(user_pod, "cleanup").stdout


def test_capabilities_of_an_inner_user_namespace_do_not_count_and_that_is_told(pod):
    before = pod.generation()
    done = in_pod(pod, "unshare", "--user", "--map-root-user", pods.sluice_binary())
    assert done.returncode == 4, done
    assert "this network namespace belongs to another user namespace" in done.stderr
    assert pod.generation() == before
    examined = in_pod(pod, "unshare", "--user", "--map-root-user", pods.sluice_binary(), "doctor")
    assert examined.returncode == 4
    assert "error    user-namespace: the network namespace belongs to another user namespace" in examined.stdout


def test_doctor_tells_that_the_pod_has_ids_of_its_own(user_pod):
    assert "a user namespace of its own" in inside(user_pod, "doctor").stdout
    assert "user IDs in rules are those that the pod sees" in outside(user_pod, "doctor").stdout


# ----------------------------------------------------------------------------------------------- bare containers

BARE = {
    "a read-only root": "mount --rbind / /mnt; mount -o remount,ro,bind /mnt; exec chroot /mnt",
    "a read-only /proc": "mount -o remount,ro,bind /proc; exec env",
    "no /proc": "mount -t tmpfs tmpfs /proc; exec env",
    "no /sys": "mount -t tmpfs tmpfs /sys; exec env",
    "no /run, no /etc": "mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /etc; exec env",
}


@pytest.mark.parametrize("what", BARE)
def test_it_works_with(pod, what):
    for arguments in (["apply"], ["apply", "--backend", "iptables"], ["verify", "--backend", "iptables"], ["status"], ["doctor"], ["cleanup"]):
        script = f"{BARE[what]} \"$@\""
        done = in_pod(pod, "unshare", "--mount", "sh", "-ec", script, "sh", pods.sluice_binary(), *arguments)
        assert done.returncode == 0, (arguments, done)


def test_it_works_with_an_empty_path_and_no_environment(pod):
    for env in ({"PATH": ""}, {}):
        assert pods.run([pods.sluice_binary()], pod.name, env=env).returncode == 0
