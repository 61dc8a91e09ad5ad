"""Packets that no ordinary socket sends: ICMP echo, unknown protocols, a TCP segment out of nowhere. Needs root."""

import os
import socket
import struct
import time

# A segment this far from what the receiver expects is outside any window.
FAR_AWAY = 0x40000000
ACK = 0x10


def raw_socket(host, protocol):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.socket(family, socket.SOCK_RAW, protocol)


def payload(endpoint, packet):
    """A raw IPv4 socket hands out the IP header as well, an IPv6 one does not."""
    return packet[(packet[0] & 15) * 4 :] if endpoint.family == socket.AF_INET else packet


def checksum(data):
    """RFC 1071."""
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ping(host, timeout):
    """Whether an echo request is answered. For ICMPv6 the kernel fills in the checksum."""
    six = ":" in host
    request, reply = (128, 129) if six else (8, 0)
    with raw_socket(host, socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP) as endpoint:
        rest = struct.pack("!HH", os.getpid() & 0xFFFF, 1) + b"sluice"
        sum_ = 0 if six else checksum(struct.pack("!BBH", request, 0, 0) + rest)
        endpoint.sendto(struct.pack("!BBH", request, 0, sum_) + rest, (host, 0))
        return wait_for(endpoint, timeout, lambda data: data[0] == reply and data[4:] == rest)


def wait_for(endpoint, timeout, wanted):
    deadline = time.monotonic() + timeout
    while (left := deadline - time.monotonic()) > 0:
        endpoint.settimeout(left)
        try:
            if wanted(payload(endpoint, endpoint.recv(4096))):
                return True
        except TimeoutError:
            break
    return False


def send_stray_segment(connection):
    """Sends what the connection's own end never would: a segment far beyond the window.

    What it acknowledges is right, so a reset drawn by it is believed. Segments before the window would not do: newer
    kernels call those old, not invalid.
    """
    source, destination = connection.getsockname(), connection.getpeername()
    sequence, acknowledged = sequence_numbers(connection)
    with raw_socket(source[0], socket.IPPROTO_TCP) as endpoint:
        header = segment(source, destination, (sequence + FAR_AWAY) % (1 << 32), acknowledged)
        endpoint.sendto(header, (destination[0], 0))


def sequence_numbers(connection):
    """What it will send next and what it expects next; linux/tcp.h, TCP_REPAIR."""
    repair, repair_queue, queue_sequence = 19, 20, 21
    receive_queue, send_queue, off_without_probe = 1, 2, -1
    numbers = []
    connection.setsockopt(socket.IPPROTO_TCP, repair, 1)
    for queue in (send_queue, receive_queue):
        connection.setsockopt(socket.IPPROTO_TCP, repair_queue, queue)
        numbers.append(connection.getsockopt(socket.IPPROTO_TCP, queue_sequence) % (1 << 32))
    connection.setsockopt(socket.IPPROTO_TCP, repair, off_without_probe)
    return numbers


def segment(source, destination, sequence, acknowledged):
    family = socket.AF_INET6 if ":" in source[0] else socket.AF_INET
    addresses = socket.inet_pton(family, source[0]) + socket.inet_pton(family, destination[0])
    header = struct.pack("!HHIIBBHHH", source[1], destination[1], sequence, acknowledged, 5 << 4, ACK, 1024, 0, 0)
    # The pseudo header of RFC 9293 and RFC 8200; both sum up the same.
    sum_ = checksum(addresses + struct.pack("!II", len(header), socket.IPPROTO_TCP) + header)
    return header[:16] + struct.pack("!H", sum_) + header[18:]


def send(protocol, host):
    with raw_socket(host, protocol) as endpoint:
        endpoint.sendto(b"sluice" * 4, (host, 0))


def sender_of_next(endpoint, timeout):
    endpoint.settimeout(timeout)
    return endpoint.recvfrom(4096)[1][0]
