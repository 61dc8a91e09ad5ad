"""The few nf_tables netlink messages that `nft` cannot send for us.

Everything works on the network namespace of the calling process.
"""

import os
import socket
import struct

NETLINK_NETFILTER = 12

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP, NLM_F_CREATE = 0x1, 0x4, 0x300, 0x400
NLMSG_ERROR, NLMSG_DONE = 2, 3
NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END = 16, 17
NFNL_SUBSYS_NFTABLES = 10
NFPROTO_INET = 1

NFT_MSG_NEWTABLE, NFT_MSG_GETTABLE = 0, 1
NFT_MSG_NEWRULE = 6
NFT_MSG_NEWSET, NFT_MSG_GETSET = 9, 10
NFT_MSG_GETGEN = 16
NFTA_GEN_ID = 1
NFTA_TABLE_NAME, NFTA_TABLE_FLAGS = 1, 2
NFTA_RULE_HANDLE, NFTA_RULE_POSITION = 3, 6
NFTA_SET_TABLE, NFTA_SET_NAME, NFTA_SET_FLAGS = 1, 2, 3
NFTA_SET_KEY_TYPE, NFTA_SET_KEY_LEN, NFTA_SET_ID, NFTA_SET_USERDATA = 4, 5, 10, 13

HEADER = struct.Struct("=IHHII")


def generation():
    """The nf_tables generation id: every committed transaction moves it by one."""
    reply = _exchange(_nftables(NFT_MSG_GETGEN, NLM_F_REQUEST, b""))[0]
    return struct.unpack(">I", _attributes(reply)[NFTA_GEN_ID])[0]


def table_dump(table):
    """What the kernel says of one table and its sets, as hexadecimal text to compare, not to read."""
    by_name = _attribute(NFTA_TABLE_NAME, _text(table))
    messages = _exchange(_nftables(NFT_MSG_GETTABLE, NLM_F_REQUEST, by_name))
    messages += _exchange(_nftables(NFT_MSG_GETSET, NLM_F_REQUEST | NLM_F_DUMP, by_name), replies=None)
    # Without the header, which carries the generation id.
    return [message[4:].hex() for message in messages]


def rules_in(datagram):
    """Of each rule in it what was said in which order, without what only the kernel says of one."""
    rules = [list(_in_order(payload)) for kind, payload in _messages(datagram) if kind == NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWRULE]
    return [[(kind, value) for kind, value in rule if kind not in (NFTA_RULE_HANDLE, NFTA_RULE_POSITION)] for rule in rules]


def add_unreadable_set(table, name):
    """Adds a set as a newer nft writes it: its user data holds a `typeof` key that nft 1.0 misreads and dies of."""
    typeof_key = _user_data(0, struct.pack("=I", 4)) + _user_data(1, _user_data(0, b"\x01\0\0\0"))
    user_data = _user_data(0, struct.pack("=I", 1)) + _user_data(3, typeof_key)
    new_table = _attribute(NFTA_TABLE_NAME, _text(table)) + _attribute(NFTA_TABLE_FLAGS, _be32(0))
    new_set = (
        _attribute(NFTA_SET_TABLE, _text(table))
        + _attribute(NFTA_SET_NAME, _text(name))
        + _attribute(NFTA_SET_FLAGS, _be32(0))
        + _attribute(NFTA_SET_KEY_TYPE, _be32(7))
        + _attribute(NFTA_SET_KEY_LEN, _be32(4))
        + _attribute(NFTA_SET_ID, _be32(1))
        + _attribute(NFTA_SET_USERDATA, user_data)
    )
    create = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE
    _exchange(
        _batch_edge(NFNL_MSG_BATCH_BEGIN)
        + _nftables(NFT_MSG_NEWTABLE, create, new_table)
        + _nftables(NFT_MSG_NEWSET, create, new_set)
        + _batch_edge(NFNL_MSG_BATCH_END),
        replies=2,
    )


def _exchange(request, replies=1):
    """Sends, then collects that many reply payloads; with `replies=None` everything up to the end of a dump."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as kernel:
        kernel.settimeout(5)
        kernel.bind((0, 0))
        kernel.send(request)
        payloads = []
        while replies is None or len(payloads) < replies:
            for kind, payload in _messages(kernel.recv(1 << 16)):
                if kind == NLMSG_DONE:
                    return payloads
                if kind == NLMSG_ERROR and struct.unpack_from("=i", payload)[0]:
                    error = -struct.unpack_from("=i", payload)[0]
                    raise OSError(error, os.strerror(error))
                payloads.append(payload)
        return payloads


def _messages(received):
    while received:
        length, kind, _, _, _ = HEADER.unpack_from(received)
        yield kind, received[HEADER.size : length]
        received = received[(length + 3) & ~3 :]


def _attributes(payload):
    return {kind & 0x3FFF: value for kind, value in _in_order(payload)}


def _in_order(payload):
    rest = payload[4:]
    while len(rest) >= 4:
        length, kind = struct.unpack_from("=HH", rest)
        yield kind, rest[4:length]
        rest = rest[(length + 3) & ~3 :]


def _nftables(message, flags, attributes):
    return _frame(NFNL_SUBSYS_NFTABLES << 8 | message, flags, NFPROTO_INET, 0, attributes)


def _batch_edge(message):
    return _frame(message, NLM_F_REQUEST, 0, NFNL_SUBSYS_NFTABLES, b"")


def _frame(kind, flags, family, resource, attributes):
    body = struct.pack("=BBH", family, 0, socket.htons(resource)) + attributes
    return HEADER.pack(HEADER.size + len(body), kind, flags, 1, 0) + body


def _attribute(kind, value):
    padding = b"\0" * (-len(value) % 4)
    return struct.pack("=HH", 4 + len(value), kind) + value + padding


def _user_data(kind, value):
    return struct.pack("BB", kind, len(value)) + value


def _be32(number):
    return struct.pack(">I", number)


def _text(name):
    return name.encode() + b"\0"
