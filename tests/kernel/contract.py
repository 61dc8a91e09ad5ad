"""The contract's "What is captured", step by step, once more and on purpose: in another language, from the text and not from
the compiler, so that a step that the compiler gets wrong is seen although the kernel does what the compiler says.

Knows the options that property.py draws, presets excepted.
"""

import ipaddress

TCP, UDP = 6, 17
DEFAULTS = {
    "proxy-port": "15001", "proxy-uid": "1337", "proxy-gid": "", "proxy-port-access": "reject", "hairpin": "direct",
    "passthrough-source": "", "inbound-ports": "*", "exclude-inbound-ports": "", "exclude-inbound-cidrs": "", "tunnel-ports": "",
    "inbound-mode": "redirect", "outbound-cidrs": "*", "exclude-outbound-cidrs": "", "outbound-ports": "",
    "exclude-outbound-ports": "", "exclude-outbound-ports-for-uids": "", "exclude-uids": "", "exclude-gids": "", "only-gids": "",
    "exclude-interfaces": "", "virtual-interfaces": "", "forwarded": "pass", "dns": "off", "dns-port": "15053", "udp": "pass",
    "ip-family": "dual", "other-family": "pass", "loopback-cidr": "127.0.0.0/8",
}
PASS, REFUSE = "pass", "refuse"


def items(text):
    return [item for item in text.split(",") if item]


def within(number, text):
    """Whether the number is in a list like `80,8000-8100`."""
    for item in items(text):
        first, _, last = item.replace(":", "-").partition("-")
        if item == "*" or int(first) <= number <= int(last or first):
            return True
    return False


def among(address, text):
    """Whether the address is in a list of networks."""
    address = ipaddress.ip_address(address)
    return any(item == "*" or address in ipaddress.ip_network(item, strict=False) for item in items(text))


def named(interface, text):
    return any(interface.startswith(item[:-1]) if item[-1] in "+*" else interface == item for item in items(text))


class Policy:
    """The number of a comment is that of the contract's step."""

    def __init__(self, options, name_servers):
        self.o = {**DEFAULTS, **options}
        self.name_servers = ",".join(name_servers)

    def landing(self, p):
        """PASS, REFUSE, or the port of the pod that the connection is sent to."""
        family = "ipv6" if ":" in p.destination else "ipv4"
        if self.o["ip-family"] not in ("dual", family):
            return self.other_family(p)
        return self.outbound(p) if p.at == "pod" else self.inbound(p)

    def other_family(self, p):
        if p.at != "pod" or self.o["other-family"] == "pass" or p.protocol not in (TCP, UDP):
            return PASS
        # Loopback that outbound-cidrs names is meant to be captured; where it cannot be, it is refused with the rest.
        loopback = self.is_loopback(p) and not self.loopback_named(p.destination)
        spared = self.before_capture(p) is not None or loopback or among(p.destination, self.o["exclude-outbound-cidrs"])
        return PASS if spared else REFUSE

    # --- outbound ------------------------------------------------------------------------------------------------------

    def outbound(self, p):
        o = self.o
        decided = self.before_capture(p)
        if decided is not None:
            return decided
        if self.dns_captures(p):  # 7
            return int(o["dns-port"])
        if self.is_loopback(p) and not self.loopback_named(p.destination):  # 8
            return PASS
        captured = self.to_captured_destination(p)  # 9 to 11
        if captured is not None:
            return captured
        if p.protocol == UDP and o["udp"] != "pass" and within(p.destination_port, o["udp"].removeprefix("reject:")):  # 12
            return REFUSE
        return PASS

    def before_capture(self, p):
        """Steps 1 to 6; None where none of them decides."""
        o, port = self.o, p.destination_port
        if named(p.interface, o["exclude-interfaces"]):  # 1
            return PASS
        if p.protocol in (TCP, UDP) and (within(port, o["exclude-outbound-ports"]) or self.excluded_for_user(p)):  # 2
            return PASS
        if p.interface == "lo" and among(p.source, o["passthrough-source"]):  # 3
            return PASS
        if self.is_proxy(p):  # 4
            return self.of_proxy(p)
        dns = o["dns"] != "off" and port == 53 and p.protocol in (TCP, UDP)
        if p.interface == "lo" and not self.any_loopback_named() and not dns:  # 5
            # Neither TCP nor UDP: left alone all the same, by the last step.
            return PASS
        if within(p.uid, o["exclude-uids"]) or within(p.gid, o["exclude-gids"]):  # 6
            return PASS
        if o["only-gids"] and not within(p.gid, o["only-gids"]):
            return PASS
        return None

    def excluded_for_user(self, p):
        text = self.o["exclude-outbound-ports-for-uids"]
        if not text:
            return False
        protocol, rest = text.split(":", 1) if text[:4] in ("tcp:", "udp:") else (None, text)
        ports, users = rest.split(":")
        return protocol in (None, {TCP: "tcp", UDP: "udp"}[p.protocol]) and within(p.destination_port, ports) and within(p.uid, users)

    def is_proxy(self, p):
        value, _, mask = self.o.get("proxy-mark", "").partition("/")
        by_mark = value and p.mark & int(mask or "0xffffffff", 0) == int(value, 0)
        return within(p.uid, self.o["proxy-uid"]) or within(p.gid, self.o["proxy-gid"]) or by_mark

    def of_proxy(self, p):
        spared = within(p.destination_port, self.o["tunnel-ports"]) or (self.o["dns"] != "off" and p.destination_port == 53)
        if self.o["hairpin"] == "inbound" and p.protocol == TCP and p.interface == "lo" and not self.is_loopback(p) and not spared:
            return self.inbound_port()
        return PASS

    def is_loopback(self, p):
        return among(p.destination, self.o["loopback-cidr"] + ",::1")

    def loopback_named(self, destination):
        """Whether outbound-cidrs names a loopback range that this address is in; `*` names none."""
        return among(destination, ",".join(self.named_ranges()))

    def any_loopback_named(self):
        return bool(self.named_ranges())

    def named_ranges(self):
        loopback = [ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1")]
        return [item for item in items(self.o["outbound-cidrs"]) if item != "*"
                and any(net.version == l.version and net.subnet_of(l) for l in loopback for net in [ipaddress.ip_network(item, strict=False)])]

    def dns_captures(self, p):
        if self.o["dns"] == "off" or p.destination_port != 53 or p.protocol not in (TCP, UDP):
            return False
        return self.o["dns"] == "all" or among(p.destination, self.name_servers)

    def to_captured_destination(self, p):
        """Steps 9 to 11; None where nothing is captured and nothing excluded."""
        o = self.o
        if among(p.destination, o["exclude-outbound-cidrs"]):
            return None if p.protocol != TCP and o["udp"] == "pass" else PASS
        if p.protocol == TCP and (within(p.destination_port, o["outbound-ports"]) or among(p.destination, o["outbound-cidrs"])):
            return int(o["proxy-port"])
        return None

    # --- inbound -------------------------------------------------------------------------------------------------------

    def inbound_port(self):
        return int(self.o.get("inbound-port", self.o["proxy-port"]))

    def inbound(self, p):
        o = self.o
        if named(p.interface, o["exclude-interfaces"]):  # 1
            return PASS
        if named(p.interface, o["virtual-interfaces"]):  # 2
            captured = self.to_captured_destination(p)
            return PASS if captured is None else captured
        here = p.passed_to == "pod"
        if not here and o["forwarded"] == "pass":  # 3
            return PASS
        if p.protocol == TCP and o["proxy-port-access"] == "reject" and p.destination_port in self.own_ports():  # 4
            return REFUSE if here else PASS
        if p.protocol != TCP or o["inbound-mode"] == "off" or within(p.destination_port, o["tunnel-ports"]):  # 5
            return PASS
        if among(p.source, o["exclude-inbound-cidrs"]) or within(p.destination_port, o["exclude-inbound-ports"]):
            return PASS
        return self.inbound_port() if within(p.destination_port, o["inbound-ports"]) else PASS  # 6

    def own_ports(self):
        o = self.o
        own = {int(o["proxy-port"])}
        if o["inbound-mode"] != "off" or o["hairpin"] == "inbound":
            own.add(self.inbound_port())
        if o["dns"] != "off":
            own.add(int(o["dns-port"]))
        return own
