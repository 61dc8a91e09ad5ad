"""Shows a capture from beginning to end, in a throwaway pod. Exits non-zero if anything is not as it is told.

usage: demo.py (as root; SLUICE_BIN and ENVOY_BIN as for the tests)
"""

import os
import sys

import pod as pods
from pod import FAMILIES, INBOUND_PORT, IPV4, IPV6, OUTBOUND_PORT, Pod, address
from proxies import SERVICE_PORT, Envoy

APPLY = ["apply", "--inbound-port", str(INBOUND_PORT)]


class RelayProxy:
    """Stands in where there is no Envoy: accepts, asks for SO_ORIGINAL_DST, connects there."""

    name = "a small Python proxy"

    def __init__(self, pod):
        self.pod = pod
        pod.proxy.serve("outbound", OUTBOUND_PORT, relay=True)
        pod.proxy.serve("inbound", INBOUND_PORT, relay=True)

    def log(self):
        return [(entry["name"], entry["original"]) for entry in self.pod.proxy.accepted()]


class EnvoyProxy:
    name = "Envoy"

    def __init__(self, pod):
        self.envoy = Envoy(pod, passthrough=False)

    def log(self):
        return [(way, original) for way, original, _ in self.envoy.all_lines()]


class Story:
    """Says what is done and what comes of it, and remembers whether it was what had to come."""

    def __init__(self, pod, proxy):
        self.pod, self.proxy, self.logged, self.failures = pod, proxy, 0, 0

    def chapter(self, text):
        print(f"\n{text}")

    def claim(self, text, holds):
        self.failures += not holds
        print(f"  {'ok  ' if holds else 'NOT '}  {text}", flush=True)

    def connection(self, text, agent, host, port, answered_by, through):
        """One connection; `through` is "outbound", "inbound" or None for direct."""
        name = agent.name_at(host, port)
        expected = [(through, address(host, port))] if through else []
        seen = self.proxy.log()[self.logged :]
        self.logged += len(seen)
        if through:
            how = f'proxy log: "{through} {address(host, port)}"'
        else:
            how = "the proxy saw nothing"
        line = f"{text:<32} {address(host, port):<20} answered by {name}; {how}"
        self.claim(line, name == answered_by and seen == expected)

    def connections(self, through_out, through_in):
        for family in FAMILIES:
            self.connection("application -> world", self.pod.app, family.outside, 80, "world", through_out)
        for family in FAMILIES:
            self.connection("world -> application", self.pod.world, family.pod, SERVICE_PORT, "app", through_in)

    def sluice(self, *arguments):
        print(f"  $ sluice {' '.join(arguments)}")
        for line in self.pod.sluice(*arguments).stdout.splitlines():
            print(f"  {line}")


def tell(pod):
    pod.world.serve("world", 80, 443)
    pod.app.serve("app", SERVICE_PORT)
    proxy = EnvoyProxy(pod) if pods.envoy_binary() else RelayProxy(pod)
    story = Story(pod, proxy)

    print(f"A pod ({IPV4.pod}, {IPV6.pod}) and, at the other end of its cable, the world.")
    print(f"In the pod: an application (UID {pod.app.uid}, port {SERVICE_PORT})", end="")
    print(f" and {proxy.name} (UID {pods.PROXY_UID}, ports {OUTBOUND_PORT} and {INBOUND_PORT}).")

    story.chapter("1. Before: no rules. Everything goes direct and the proxy is idle.")
    story.connections(None, None)

    story.chapter("2. The rules, in one transaction.")
    generation = pod.generation()
    story.sluice(*APPLY)
    story.claim("the kernel saw exactly one transaction", pod.generation() == generation + 1)

    story.chapter("3. After: the same connections pass through the proxy, which knows where each wanted to go.")
    story.connections("outbound", "inbound")

    story.chapter("4. The proxy's own connections are left alone, so nothing runs in circles.")
    for family in FAMILIES:
        story.connection("proxy's user -> world", pod.proxy, family.outside, 80, "world", None)

    story.chapter("5. The same command again changes nothing.")
    generation = pod.generation()
    story.sluice(*APPLY)
    story.claim("the kernel saw no transaction", pod.generation() == generation)

    story.chapter("6. Another configuration replaces the first: port 443 is now left alone.")
    story.sluice(*APPLY, "--exclude-outbound-ports", "443")
    story.connection("application -> world, port 443", pod.app, IPV4.outside, 443, "world", None)
    story.connection("application -> world, port 80", pod.app, IPV4.outside, 80, "world", "outbound")

    story.chapter("7. Cleanup: direct again, and nothing is left behind.")
    story.sluice("cleanup")
    story.connections(None, None)
    story.claim("`nft list ruleset` prints nothing", pod.ruleset() == "")
    return story.failures


def main():
    if os.geteuid() != 0:
        return "demo: run me as root: it makes network namespaces"
    if not os.access(pods.sluice_binary(), os.X_OK):
        return f"demo: there is no sluice at {pods.sluice_binary()}; run ./dev build or set SLUICE_BIN"
    pods.clean_up_on_exit()
    with Pod() as pod:
        failures = tell(pod)
    print(f"\n{failures} of these did not hold." if failures else "\nAll of it held.")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
