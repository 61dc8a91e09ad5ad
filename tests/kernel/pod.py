"""A pod to test in: two network namespaces joined by a veth pair.

    POD    10.9.0.2/24  fd00:9::2/64   default routes lead to WORLD
    WORLD  10.9.0.1/24  fd00:9::1/64   answers on any address of ANY_ADDRESS

Nothing here touches the namespace the tests were started in, and no packet leaves the two namespaces.

    with Pod() as pod:
        pod.world.serve("world", 80)
        pod.sluice("apply")
        pod.app.ask("198.18.0.10", 80).name   # who answered

Everything is removed again when the `with` ends, when the interpreter exits and on SIGTERM; processes die with the
process that started them.
"""

import atexit
import contextlib
import ctypes
import itertools
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

HERE = pathlib.Path(__file__).resolve().parent

ROOT_UID, APP_UID, PROXY_UID = 0, 2000, 1337
OUTBOUND_PORT, INBOUND_PORT = 15001, 15006
OTHER_OUTBOUND_PORT = 15002
APPLY = ("apply", "--inbound-port", str(INBOUND_PORT))

ANY_ADDRESS = ("198.18.0.0/15", "203.0.113.0/24", "10.96.0.0/12", "2001:db8::/32", "fd00:96::/112")


@dataclass(frozen=True)
class Family:
    """The addresses of one IP family, so that a test is written once and run for both."""

    name: str
    world: str
    pod: str
    outside: str  # somewhere out there, answered by WORLD
    other: str  # somewhere else out there, in `other_cidr`
    other_cidr: str
    service: str  # the address of a service, as a cluster would hand out
    passthrough: str  # what a proxy binds to when it calls its own application
    loopback: str

    def __str__(self):
        return self.name


IPV4 = Family(
    name="ipv4",
    world="10.9.0.1",
    pod="10.9.0.2",
    outside="198.18.0.10",
    other="203.0.113.10",
    other_cidr="203.0.113.0/24",
    service="10.96.0.10",
    passthrough="127.0.0.6",
    loopback="127.0.0.1",
)
IPV6 = Family(
    name="ipv6",
    world="fd00:9::1",
    pod="fd00:9::2",
    outside="2001:db8::10",
    other="2001:db8:ff::10",
    other_cidr="2001:db8:ff::/48",
    service="fd00:96::10",
    passthrough="::6",
    loopback="::1",
)
FAMILIES = (IPV4, IPV6)


def address(host, port):
    """An address and port as the servers write them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class NoAnswer(Exception):
    """A connection was refused, reset or timed out; the text says which."""


@dataclass(frozen=True)
class Answer:
    """What the server at the other end said."""

    name: str  # which server
    local: str  # the address it was reached by
    peer: str  # the caller as that server saw it
    original: str  # SO_ORIGINAL_DST; None where conntrack has none
    via: list  # names of the relays in between, nearest to the server first


def wait_until(condition, what, timeout=10):
    """Polls until `condition()` is true and returns its value."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout} s for {what}")
        time.sleep(0.005)


# ------------------------------------------------------------------------------------------- processes

_libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1


def die_with_parent():
    """Runs in the child, before exec: nothing outlives the tests, whatever ends them."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _become(netns, uid, gid):
    """Runs in the child, before exec: enters the namespace, then lays down what the user must not have."""
    with open(f"/run/netns/{netns}") as namespace:
        if _libc.setns(namespace.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    # nft is made to crash in one test, and must not litter.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if uid or gid:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    # After the change of user, which would reset it.
    die_with_parent()


def spawn(argv, netns, uid=ROOT_UID, **options):
    """Starts a program in a namespace under a user.

    The program file is opened here, as root: it may lie in a directory that the user cannot enter.
    """
    binary = os.open(shutil.which(argv[0]) or argv[0], os.O_RDONLY)
    try:
        return subprocess.Popen(
            argv,
            executable=f"/proc/self/fd/{binary}",
            pass_fds=(binary,),
            preexec_fn=lambda: _become(netns, uid, uid),
            start_new_session=True,
            cwd="/",
            **options,
        )
    finally:
        os.close(binary)


def run(argv, netns, timeout=30, stdin="", **options):
    """Runs a program as root in a namespace to its end and returns what it said."""
    process = spawn(
        argv, netns, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )
    try:
        out, err = process.communicate(stdin, timeout=timeout)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    return subprocess.CompletedProcess(argv, process.returncode, out, err)


def succeeded(result):
    if result.returncode:
        raise AssertionError(
            f"{' '.join(map(str, result.args))}: exit {result.returncode}\n{result.stdout}{result.stderr}"
        )
    return result


def sluice_binary():
    default = HERE.parents[1] / "build" / "dev" / "sluice"
    return str(pathlib.Path(os.environ.get("SLUICE_BIN") or default).absolute())


def envoy_binary():
    """Envoy's path, or None."""
    if os.environ.get("ENVOY_BIN"):
        return os.environ["ENVOY_BIN"]
    found = sorted(HERE.parents[1].glob("build/venv/lib/python3*/site-packages/envoy/_bin/envoy"))
    return str(found[-1]) if found else None


# ---------------------------------------------------------------------------------------------- agents


class Agent:
    """The near end of an agent.py: calls here happen in its namespace, as its user."""

    def __init__(self, netns, uid, gid=None, net_admin=False):
        self.uid = uid
        ours, theirs = socket.socketpair()
        ours.settimeout(30)
        with theirs:
            argv = [sys.executable, "-B", "-s", "-S", str(HERE / "agent.py")]
            argv += [str(uid), str(uid if gid is None else gid)] + ["net_admin"] * net_admin
            self.process = spawn(argv, netns, stdin=theirs, stdout=theirs)
        self._channel = ours.makefile("rw")
        ours.close()

    @property
    def pid(self):
        return self.process.pid

    def close(self):
        self.process.kill()
        self.process.wait()
        self._channel.close()

    def _request(self, do, **arguments):
        self._channel.write(json.dumps({"do": do, **arguments}) + "\n")
        self._channel.flush()
        reply = json.loads(self._channel.readline() or '{"failure": "the agent died"}')
        if "error" in reply:
            raise NoAnswer(reply["error"])
        if "failure" in reply:
            raise RuntimeError(reply["failure"])
        return reply["result"]

    def serve(self, name, *ports, relay=False, **how):
        """Listens on these ports, on every address or those in `hosts`. A relay fetches its answer from where the
        caller wanted to go; see Server in agent.py for `onward` and `source`."""
        for port in ports:
            self._request("serve", name=name, port=port, relay=relay, **how)

    def serve_transparent(self, name, port, mark):
        """A relay for TPROXY, which calls on in the caller's name with that mark. Needs net_admin."""
        self._request("serve_transparent", name=name, port=port, mark=mark)

    def serve_datagrams(self, name, port, **how):
        """Over UDP. With `upstream`, a (host, port), it first asks there from the caller's source port."""
        self._request("serve_datagrams", name=name, port=port, **how)

    def serve_socks(self, name, port):
        self._request("serve_socks", name=name, port=port)

    def accepted(self):
        """Every connection its servers took, oldest first: dictionaries with name, original, peer."""
        return self._request("accepted")

    def ask(self, host, port, **how):
        """Connects and returns the Answer; raises NoAnswer. `how`: source, source_port, mark, and as `ending` who
        closes first, "client" or "server", or "reset"; with the former two both have closed on return."""
        return Answer(**self._request("ask", host=host, port=port, **how))

    def name_at(self, host, port, **how):
        """Who answers there: a server's name, or why nobody did."""
        try:
            return self.ask(host, port, **how).name
        except NoAnswer as reason:
            return str(reason)

    def ask_datagram(self, host, port, **how):
        """Asks over UDP and returns what a serve_datagrams said; only an answer from that very address counts."""
        return self._request("ask_datagram", host=host, port=port, **how)

    def name_at_datagram(self, host, port, **how):
        try:
            return self.ask_datagram(host, port, **how)["name"]
        except NoAnswer as reason:
            return str(reason)

    def ping(self, host):
        """Whether an ICMP or ICMPv6 echo request is answered. Needs root."""
        return self._request("ping", host=host)

    def send_stray_segment(self, id):
        """Sends a TCP segment far outside the window on a held connection. Needs root."""
        self._request("send_stray_segment", id=id)

    def hear_protocol(self, number, host):
        """Starts to listen for packets of that IP protocol, in the family of `host`. Needs root."""
        self._request("hear_protocol", number=number, host=host)

    def send_protocol(self, number, host):
        self._request("send_protocol", number=number, host=host)

    def heard_protocol(self, number):
        """The source address of the next such packet."""
        return self._request("heard_protocol", number=number)

    def ask_from_same_port(self, targets, source_ports):
        """Connections to all (host, port) of `targets` from each of these ports, at the same time: a list of Answers."""
        return [Answer(**each) for each in self._request("ask_from_same_port", targets=targets, source_ports=source_ports)]

    def fetch(self, host, port, path):
        """The whole HTTP response to a GET."""
        return self._request("fetch", host=host, port=port, path=path)

    def hold(self, host, port, **how):
        """Opens a connection that stays; returns its id and the Answer. `how` as for ask()."""
        held = self._request("hold", host=host, port=port, **how)
        return held["id"], Answer(**held["greeting"])

    def echo_on(self, id, text):
        """Sends a line on a held connection and returns what comes back."""
        return self._request("echo_on", id=id, text=text)

    def say_no_more_on(self, id):
        """Closes a held connection in one direction."""
        self._request("say_no_more_on", id=id)

    def hear_on(self, id, **how):
        """The next line on a held connection; waits `patience` seconds for it."""
        return self._request("hear_on", id=id, **how)

    @contextlib.contextmanager
    def stream(self, targets):
        """Connects about once a millisecond while the block runs; the dictionary given out counts who answered."""
        counts = {}
        self._request("start_stream", targets=targets)
        try:
            yield counts
        finally:
            counts.update(self._request("stop_stream"))

    def generation(self):
        return self._request("generation")

    def table_dump(self, table):
        return self._request("table_dump", table=table)

    def add_unreadable_set(self, table, name):
        self._request("add_unreadable_set", table=table, name=name)


# ----------------------------------------------------------------------------------------------- pods

_numbers = itertools.count(1)
_open_pods = []


def without_note(listing):
    return re.sub(r'^\tcomment ".*"\n', "", listing, flags=re.MULTILINE)


def serve_mesh(pod):
    """An application and a proxy that only answers, both in the pod, and servers outside.

    The name in an answer says who got the connection: "outbound" and "inbound" mean captured, "world" and "app" direct.
    """
    pod.world.serve("world", 80, 443, 8080)
    pod.app.serve("app", 5000, 5001, 15008)
    pod.proxy.serve("outbound", OUTBOUND_PORT, OTHER_OUTBOUND_PORT)
    pod.proxy.serve("inbound", INBOUND_PORT)


class Pod:
    """The two namespaces and everything running in them. Use as a context manager."""

    def __init__(self, first_id=None):
        """With `first_id`, the pod's namespace belongs to a user namespace whose IDs begin with that one outside, as
        Kubernetes makes it for hostUsers: false; `holder` is then a process in it."""
        self.holder = None
        self._first_id = first_id
        prefix = f"sluice-{os.getpid()}-{next(_numbers)}"
        self.name, self.world_name = f"{prefix}-pod", f"{prefix}-world"
        self._agents = {}
        self._stack = contextlib.ExitStack()
        _open_pods.append(self)
        try:
            self.scratch = pathlib.Path(tempfile.mkdtemp(prefix=f"{prefix}-"))
            self._stack.callback(shutil.rmtree, self.scratch, ignore_errors=True)
            self.scratch.chmod(0o755)
            self._make_namespaces()
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._stack.close()
        if self in _open_pods:
            _open_pods.remove(self)

    def _make_namespaces(self):
        for name in (self.name, self.world_name):
            # First, so that a signal in between finds it. Removing what is not there is no error here.
            self._stack.callback(subprocess.run, ["ip", "netns", "delete", name], stderr=subprocess.DEVNULL)
            if name == self.name and self._first_id is not None:
                self.holder = self._hold_user_namespace()
                subprocess.run(["ip", "netns", "attach", name, str(self.holder)], check=True)
            else:
                subprocess.run(["ip", "netns", "add", name], check=True)
        self.ip(
            "link set lo up",
            "link add eth0 type veth peer name eth0 netns " + self.name,
            # No link-local addresses: they would come and go by themselves while a test compares.
            "link set eth0 addrgenmode none",
            f"addr add {IPV4.world}/24 dev eth0",
            f"addr add {IPV6.world}/64 dev eth0 nodad",
            "link set eth0 up",
            *(f"route add local {cidr} dev lo" for cidr in ANY_ADDRESS),
            netns=self.world_name,
        )
        self.ip(
            "link set lo up",
            "link set eth0 addrgenmode none",
            f"addr add {IPV4.pod}/24 dev eth0",
            f"addr add {IPV6.pod}/64 dev eth0 nodad",
            "link set eth0 up",
            f"route add default via {IPV4.world}",
            f"route add default via {IPV6.world}",
        )
        wait_until(self._is_connected, "the veth pair to come up")

    def _hold_user_namespace(self):
        def hold(kind, *argv):
            process = subprocess.Popen([*argv, "sleep", "infinity"], stdin=subprocess.DEVNULL)
            self._stack.callback(process.wait)
            self._stack.callback(process.kill)
            own, its = f"/proc/self/ns/{kind}", f"/proc/{process.pid}/ns/{kind}"
            wait_until(lambda: os.readlink(own) != os.readlink(its), f"a {kind} namespace")
            return process.pid

        first = hold("user", "unshare", "--user")
        for kind in ("uid_map", "gid_map"):
            pathlib.Path(f"/proc/{first}/{kind}").write_text(f"0 {self._first_id} 65536")
        # After the IDs are mapped, as in runc: the files of its /proc/net belong to who is root by then.
        return hold("net", "nsenter", "--user", f"--target={first}", "--setuid=0", "--setgid=0", "unshare", "--net")

    def _is_connected(self):
        # An address of IPv6 gets its route a moment after the link is up.
        routes = run(["ip", "-6", "route", "show", "table", "local"], self.name).stdout
        return f"local {IPV6.pod} " in routes and "LOWER_UP" in run(["ip", "link", "show", "eth0"], self.name).stdout

    def _agent(self, netns, uid, **more):
        key = (netns, uid, *more.values())
        if key not in self._agents:
            agent = Agent(netns, uid, **more)
            self._stack.callback(agent.close)
            self._agents[key] = agent
        return self._agents[key]

    def user(self, uid, gid=None, net_admin=False):
        """A process of that user in the pod; its group has the same number unless given."""
        return self._agent(self.name, uid, gid=gid, net_admin=net_admin)

    @property
    def app(self):
        return self.user(APP_UID)

    @property
    def proxy(self):
        return self.user(PROXY_UID)

    @property
    def root(self):
        return self.user(ROOT_UID)

    @property
    def world(self):
        return self._agent(self.world_name, ROOT_UID)

    def add_link(self, interface, network):
        """Gives the pod one more interface, to WORLD: 10.NETWORK.0.2/24 and fd00:NETWORK::2/64 there, .1 here."""
        self._join(self.world_name, interface, network)

    def add_guest(self, interface, network):
        """A namespace behind the pod, as a nested container or a VM: its only way out is through `interface` of the
        pod. Returns a process in it; its addresses are 10.NETWORK.0.1 and fd00:NETWORK::1."""
        guest = f"{self.name}-{interface}"
        self._stack.callback(subprocess.run, ["ip", "netns", "delete", guest], stderr=subprocess.DEVNULL)
        subprocess.run(["ip", "netns", "add", guest], check=True)
        self._join(guest, interface, network)
        self.ip(
            "link set lo up",
            f"route add default via 10.{network}.0.2",
            f"route add default via fd00:{network}::2",
            netns=guest,
        )
        self.sysctl("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        # A router that forwards asks for its neighbours from a link-local address.
        links = ((self.name, "eth0", 2), (self.name, interface, 2), (self.world_name, "eth0", 1), (guest, interface, 1))
        for netns, end, number in links:
            self.ip(f"address add fe80::{number}/64 dev {end} nodad", netns=netns)
        self.ip(
            f"route add 10.{network}.0.0/24 via {IPV4.pod}",
            f"route add fd00:{network}::/64 via {IPV6.pod}",
            netns=self.world_name,
        )
        return self._agent(guest, ROOT_UID)

    def _join(self, other, interface, network):
        self.ip(f"link add {interface} type veth peer name {interface} netns {other}")
        for netns, end in ((self.name, 2), (other, 1)):
            self.ip(
                f"link set {interface} addrgenmode none",
                f"addr add 10.{network}.0.{end}/24 dev {interface}",
                f"addr add fd00:{network}::{end}/64 dev {interface} nodad",
                f"link set {interface} up",
                netns=netns,
            )

    def sysctl(self, *settings):
        succeeded(run(["sysctl", "-qw", *settings], self.name))

    def state(self):
        """What a configuration can change: rules, addresses, routes and routing rules."""
        shown = {"rules": without_note(self.nft("-s", "list", "ruleset").stdout)}
        for family in ("-4", "-6"):
            for what in ("address show", "rule show", "route show table all"):
                shown[what + family] = succeeded(run(["ip", "-o", family, *what.split()], self.name)).stdout
        return shown

    def start(self, argv, uid, netns=None, **options):
        """Starts a program in the pod, or in `netns`, that is killed with it."""
        process = spawn(argv, netns or self.name, uid, stdin=subprocess.DEVNULL, **options)
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process

    def ip(self, *commands, netns=None):
        succeeded(run(["ip", "-batch", "-"], netns or self.name, stdin="\n".join(commands) + "\n"))

    def sluice_process(self, *arguments):
        """Starts sluice in the pod, with an empty environment, and does not wait for it."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return spawn([sluice_binary(), *arguments], self.name, env={}, **pipes)

    def sluice(self, *arguments, check=True, env=None, netns=None, resolv_conf=None):
        """Runs sluice in the pod, or in `netns`, with no other environment than given; `check` demands success.

        With `resolv_conf`, a text, it sees that as /etc/resolv.conf.
        """
        argv = [sluice_binary(), *map(str, arguments)]
        if resolv_conf is not None:
            own = self.scratch / "resolv.conf"
            own.write_text(resolv_conf)
            argv = ["unshare", "-m", "sh", "-c", f'mount --bind {own} /etc/resolv.conf && exec "$@"', "sh", *argv]
        result = run(argv, netns or self.name, env=env or ({"PATH": os.environ["PATH"]} if resolv_conf else {}))
        return succeeded(result) if check else result

    def nft(self, *arguments, stdin="", check=True, netns=None):
        result = run(["nft", *arguments], netns or self.name, stdin=stdin)
        return succeeded(result) if check else result

    def ruleset(self, netns=None):
        """Everything nftables holds in the pod, counters included."""
        return self.nft("list", "ruleset", netns=netns).stdout

    def listing(self, netns=None):
        """Our table as nft prints it, without the values of counters."""
        return self.nft("-s", "list", "table", "inet", "sluice", netns=netns).stdout

    def rules(self, netns=None):
        """The listing without the note that apply leaves on the table, which says when and by whom."""
        return without_note(self.listing(netns))

    def generation(self):
        return self.root.generation()


def close_all():
    while _open_pods:
        _open_pods[-1].close()


def clean_up_on_exit():
    """Makes every way out but SIGKILL remove the namespaces."""
    atexit.register(close_all)
    # As if Ctrl-C had been pressed: it unwinds the `with` blocks, and pytest ends the run.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
