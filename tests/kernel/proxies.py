"""Starts real proxies in a pod, and reads from their logs where they think a connection wanted to go.

Every log line is `DIRECTION ORIGINAL-DESTINATION UPSTREAM`, whichever proxy wrote it.
"""

import json
import os
import re

import pod as pods
from pod import INBOUND_PORT, IPV4, IPV6, OUTBOUND_PORT, PROXY_UID, wait_until

ADMIN_PORT = 15000
SERVICE_PORT = 5000  # the application's, in the pod
LOG_LINE = re.compile(r"^(outbound|inbound) (\S+) (\S+)$", re.MULTILINE)


class Proxy:
    """A running proxy and its log."""

    def __init__(self, pod, argv, log):
        self.log = log
        # The proxy opens this itself, as its own user.
        log.touch()
        os.chown(log, PROXY_UID, PROXY_UID)
        self.messages = log.with_suffix(".messages")
        with self.messages.open("w") as messages:
            self.process = pod.start(argv, PROXY_UID, stdout=messages, stderr=messages)

    def lines(self):
        """Every connection so far, as (direction, original destination, upstream)."""
        return [match.groups() for match in LOG_LINE.finditer(self.log.read_text() + self.messages.read_text())]

    def wait_for_lines(self, number):
        """A proxy logs a connection when it is over, a moment after the caller knows."""
        wait_until(lambda: len(self.lines()) >= number, f"{number} lines in the log; it has {self.lines()}")
        return self.lines()

    def wait_until_listening(self, probe):
        def ready():
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.process.args[0]} ended at once:\n{self.messages.read_text()[-2000:]}")
            return probe()

        wait_until(ready, f"{self.process.args[0]} to listen", timeout=20)


# ------------------------------------------------------------------------------------------------ Envoy


class Envoy(Proxy):
    """Envoy as a sidecar: 15001 for outbound, 15006 for inbound, both to wherever the connection wanted to go.

    `service` names what a control plane would tell it: connections to the service address go to the pod's own
    application. With `passthrough` its inbound side calls the application from 127.0.0.6 and ::6, as Istio does.
    """

    def __init__(self, pod, passthrough):
        self.pod = pod
        configuration = envoy_configuration(pod.scratch / "envoy.log", passthrough)
        argv = [
            pods.envoy_binary(),
            "--config-yaml", json.dumps(configuration),
            "--concurrency", "1",
            "--disable-hot-restart",
            "--log-level", "warning",
            "--file-flush-interval-msec", "10",
        ]  # fmt: skip
        super().__init__(pod, argv, pod.scratch / "envoy.log")
        self.wait_until_listening(lambda: "LIVE" in self._admin("/ready"))

    def _admin(self, path):
        try:
            return self.pod.root.fetch("127.0.0.1", ADMIN_PORT, path)
        except pods.NoAnswer:
            return ""

    def all_lines(self):
        """One line for each connection it took so far, having waited for those that are just ending.

        Envoy's own counters say how many there were: a loop shows there at once, in the log only when it is over.
        """
        stats = self._admin("/stats?filter=tcp.(outbound|inbound).downstream_cx_total")
        return self.wait_for_lines(sum(map(int, re.findall(r"downstream_cx_total: (\d+)", stats))))


def envoy_configuration(log, passthrough):
    bind = {
        "source_address": socket_address(IPV4.passthrough),
        "extra_source_addresses": [{"address": socket_address(IPV6.passthrough)}],
    }
    return {
        "admin": {"address": {"socket_address": socket_address("127.0.0.1", ADMIN_PORT)}},
        "static_resources": {
            "listeners": [
                listener("outbound", OUTBOUND_PORT, log, [service_chain(IPV4, log), service_chain(IPV6, log)]),
                listener("inbound", INBOUND_PORT, log, []),
            ],
            "clusters": [
                original_destination_cluster("outbound", {}),
                original_destination_cluster("inbound", {"upstream_bind_config": bind} if passthrough else {}),
                own_application_cluster(IPV4),
                own_application_cluster(IPV6),
            ],
        },
    }


def listener(name, port, log, chains):
    return {
        "name": name,
        "address": {"socket_address": socket_address("0.0.0.0", port)},
        "additional_addresses": [{"address": {"socket_address": socket_address("::", port)}}],
        "listener_filters": [
            {
                "name": "original_dst",
                "typed_config": {"@type": extension("filters.listener.original_dst.v3.OriginalDst")},
            }
        ],
        "filter_chains": [*chains, {"filters": [tcp_proxy(name, name, log)]}],
    }


def service_chain(family, log):
    cidr = {"address_prefix": family.service, "prefix_len": 32 if family is IPV4 else 128}
    return {
        "filter_chain_match": {"prefix_ranges": [cidr]},
        "filters": [tcp_proxy("outbound", f"own-application-{family}", log)],
    }


def tcp_proxy(direction, cluster, log):
    access_log = {
        "name": "file",
        "typed_config": {
            "@type": extension("access_loggers.file.v3.FileAccessLog"),
            "path": str(log),
            "log_format": {
                "text_format_source": {
                    "inline_string": f"{direction} %DOWNSTREAM_LOCAL_ADDRESS% %UPSTREAM_HOST%\n"
                }
            },
        },
    }
    return {
        "name": "tcp_proxy",
        "typed_config": {
            "@type": extension("filters.network.tcp_proxy.v3.TcpProxy"),
            "stat_prefix": direction,
            "cluster": cluster,
            "access_log": [access_log],
        },
    }


def original_destination_cluster(name, more):
    return {
        "name": name,
        "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED",
        "connect_timeout": "3s",
        **more,
    }


def own_application_cluster(family):
    name = f"own-application-{family}"
    endpoint = {"address": {"socket_address": socket_address(family.pod, SERVICE_PORT)}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "3s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}]},
    }


def socket_address(host, port=0):
    return {"address": host, "port_value": port}


def extension(name):
    return f"type.googleapis.com/envoy.extensions.{name}"


# ---------------------------------------------------------------------------------------------- HAProxy

HAPROXY_CONFIGURATION = f"""
global
    maxconn 200
    log stdout format raw daemon

defaults
    mode tcp
    timeout connect 3s
    timeout client 10s
    timeout server 10s
    log global

frontend outbound
    bind 0.0.0.0:{OUTBOUND_PORT}
    log-format "outbound %[dst]:%[dst_port] -"
    default_backend original_destination

frontend inbound
    bind 0.0.0.0:{INBOUND_PORT}
    log-format "inbound %[dst]:%[dst_port] -"
    default_backend original_destination

backend original_destination
    # No address and no port of its own: it connects to where the client wanted to go.
    server original 0.0.0.0
"""


class HAProxy(Proxy):
    """IPv4 only: HAProxy 2.6 asks for SO_ORIGINAL_DST but not for its IPv6 twin."""

    def __init__(self, pod):
        configuration = pod.scratch / "haproxy.cfg"
        configuration.write_text(HAPROXY_CONFIGURATION)
        super().__init__(pod, ["haproxy", "-db", "-f", str(configuration)], pod.scratch / "haproxy.log")
        self.wait_until_listening(lambda: listens(pod, OUTBOUND_PORT) and listens(pod, INBOUND_PORT))


# --------------------------------------------------------------------------------------------- redsocks


class Redsocks(Proxy):
    """Speaks SOCKS5 to a server in WORLD. Outbound and IPv4 only: redsocks 0.5 knows no more."""

    SOCKS_PORT = 1080

    def __init__(self, pod):
        configuration = pod.scratch / "redsocks.conf"
        configuration.write_text(
            "base { log_info = off; log = stderr; daemon = off; redirector = iptables; }\n"
            f"redsocks {{ local_ip = 0.0.0.0; local_port = {OUTBOUND_PORT};"
            f" ip = {IPV4.world}; port = {self.SOCKS_PORT}; type = socks5; }}\n"
        )
        super().__init__(pod, ["redsocks", "-c", str(configuration)], pod.scratch / "redsocks.log")
        self.wait_until_listening(lambda: listens(pod, OUTBOUND_PORT))


def listens(pod, port):
    """Asked of the socket table, because a trial connection would show up in the proxy's log."""
    return pods.run(["ss", "-Htln", f"sport = :{port}"], pod.name).stdout
