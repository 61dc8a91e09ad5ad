"""Many short connections, and who answers them. One process each; tests/kernel/test_no_window.py starts them.

usage: connections.py UID answer LETTER PORT            answers every connection with that letter
       connections.py UID connect COUNT PORT HOST...     connects, at least COUNT times and until standard input ends; prints
                                                        how many were answered with which letter, or failed and how
"""

import collections
import itertools
import json
import os
import select
import socket
import struct
import sys

# Closing resets, so that neither end keeps the ports for a minute.
RESET = struct.pack("=ii", 1, 0)
TIMEOUT = 20


def family_of(host):
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def answer(letter, port):
    poll = select.epoll()
    listeners = {}
    for host in ("0.0.0.0", "::"):
        listener = socket.socket(family_of(host), socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if host == "::":
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
        listener.listen(4096)
        listener.setblocking(False)
        listeners[listener.fileno()] = listener
        poll.register(listener, select.EPOLLIN)
    print("ready", flush=True)
    while True:
        for number, _ in poll.poll():
            accept_all(listeners[number], letter.encode())


def accept_all(listener, letter):
    while True:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            return
        except OSError:
            continue  # Gone before it was looked at.
        try:
            connection.send(letter)
        except OSError:
            pass
        connection.close()


def connect(count, port, hosts):
    """Each host in its turn; an address that ends in a colon or a dot gets a last part that changes."""
    answers = collections.Counter()
    targets = itertools.cycle(f"{host}{last:x}" if host[-1] == ":" else f"{host}{last}" if host[-1] == "." else host
                              for last in range(1, 250) for host in hosts)  # fmt: skip
    while True:
        for host in itertools.islice(targets, 100):
            answers[who_answers(host, port)] += 1
        if sum(answers.values()) >= count and select.select([sys.stdin], [], [], 0)[0]:
            break
    print(json.dumps(answers))


def who_answers(host, port):
    connection = socket.socket(family_of(host), socket.SOCK_STREAM)
    try:
        connection.settimeout(TIMEOUT)
        connection.connect((host, port))
        letter = connection.recv(1).decode() or "closed without an answer"
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        return letter
    except OSError as error:
        return f"{type(error).__name__} ({error}) from {host}"
    finally:
        connection.close()


def main():
    uid, do, what, port, *hosts = sys.argv[1:]
    # Here and not by whoever starts us: this file may lie where the user cannot read.
    os.setgroups([])
    os.setresgid(int(uid), int(uid), int(uid))
    os.setresuid(int(uid), int(uid), int(uid))
    if do == "answer":
        answer(what, int(port))
    else:
        connect(int(what), int(port), hosts)


if __name__ == "__main__":
    main()
