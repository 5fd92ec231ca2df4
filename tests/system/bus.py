#!/usr/bin/python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Speaks D-Bus without a library, so that tests can say what no library would, and from any process.

usage: bus.py call CALLS [RESULTS]    one call after another; CALLS is JSON: [[path, interface, member, signature, arguments]...]
       bus.py dialog CALLS            the same with the flag that allows a dialog
       bus.py agent CALLS PASSWORD    the same with an agent on a terminal of its own, which answers with the password
       bus.py burst COUNT CALLS       the first call, so often, without waiting in between; prints how often it was answered how
       bus.py hostile                 sends what is no message and what nobody means; prints how each was answered
       bus.py descriptors COUNT       so many calls with descriptors that nobody has asked for

Each result is {"error": NAME or "", "text": the first text, "body": its bytes as Latin-1}.
"""

import json
import os
import select
import socket
import struct
import sys

SOCKET = "/run/dbus/system_bus_socket"
DESTINATION = "org.watcherd1"
CALL, ERROR = 1, 3
ALLOW_DIALOG = 4
ALIGNMENT = {"y": 1, "g": 1, "v": 1, "q": 2, "n": 2, "b": 4, "u": 4, "i": 4, "s": 4, "o": 4, "a": 4, "h": 4}
NUMBERS = {"y": "B", "n": "h", "q": "H", "b": "I", "i": "i", "u": "I", "x": "q", "t": "Q", "d": "d", "h": "I"}


def types(signature):
    """The complete types of a signature."""
    at = 0
    while at < len(signature):
        end = at
        while signature[end] == "a":
            end += 1
        if signature[end] in "({":
            depth = 0
            while True:
                depth += {"(": 1, "{": 1, ")": -1, "}": -1}.get(signature[end], 0)
                if depth == 0:
                    break
                end += 1
        yield signature[at:end + 1]
        at = end + 1


def pad(out, boundary):
    out.extend(b"\0" * (-len(out) % boundary))


def put(out, kind, value):
    first = kind[0]
    pad(out, ALIGNMENT.get(first, 8))
    if first in NUMBERS:
        out.extend(struct.pack("<" + NUMBERS[first], value))
    elif first in "so":
        text = value.encode("utf-8", "surrogateescape")
        out.extend(struct.pack("<I", len(text)) + text + b"\0")
    elif first == "g":
        out.extend(bytes([len(value)]) + value.encode() + b"\0")
    elif first == "v":
        put(out, "g", value[0])
        put(out, value[0], value[1])
    elif first == "a":
        at = len(out)
        out.extend(b"\0\0\0\0")
        pad(out, ALIGNMENT.get(kind[1], 8))
        begin = len(out)
        for item in value.items() if isinstance(value, dict) else value:
            put(out, kind[1:], item)
        out[at:at + 4] = struct.pack("<I", len(out) - begin)
    else:
        for inner, item in zip(types(kind[1:-1]), value):
            put(out, inner, item)


def message(serial, path, interface, member, signature="", arguments=(), destination=DESTINATION, flags=0):
    body = bytearray()
    for kind, value in zip(types(signature), arguments):
        put(body, kind, value)
    fields = [(1, ("o", path)), (2, ("s", interface)), (3, ("s", member)), (6, ("s", destination))]
    if signature:
        fields.append((8, ("g", signature)))
    out = bytearray(struct.pack("<BBBBII", ord("l"), CALL, flags, 1, len(body), serial))
    put(out, "a(yv)", fields)
    pad(out, 8)
    return bytes(out + body)


class Bus:
    def __init__(self, patience=60):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(patience)
        self.socket.connect(SOCKET)
        self.input = self.socket.makefile("rb")
        self.socket.sendall(b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() + b"\r\n")
        assert self.input.readline().startswith(b"OK ")
        self.socket.sendall(b"NEGOTIATE_UNIX_FD\r\n")
        self.input.readline()
        self.socket.sendall(b"BEGIN\r\n")
        self.serial = 0
        name = "org.freedesktop.DBus"
        self.call("/org/freedesktop/DBus", name, "Hello", destination=name)

    def send(self, *what, **how):
        self.serial += 1
        self.socket.sendall(message(self.serial, *what, **how))
        return self.serial

    def receive(self):
        """The next message: its kind, the serial that it answers, and the result."""
        head = self.input.read(16)
        if len(head) < 16:
            raise ConnectionError("the bus hung up")
        _, kind, _, _, length, _, fields = struct.unpack("<BBBBIII", head)
        rest = self.input.read(fields + -fields % 8)
        body = self.input.read(length)
        answers, error, at = 0, "", 0
        while at < fields:
            at += -at % 8
            code, size = rest[at], rest[at + 1]
            signature = rest[at + 2:at + 2 + size].decode()
            at += 3 + size
            if signature == "g":
                at += rest[at] + 2
                continue
            at += -at % 4
            number = struct.unpack_from("<I", rest, at)[0]
            at += 4
            if signature in "so":
                if code == 4:
                    error = rest[at:at + number].decode()
                at += number + 1
            elif code == 5:
                answers = number
        text = ""
        if kind == ERROR and length > 4:
            size = struct.unpack_from("<I", body)[0]
            text = body[4:4 + size].decode("utf-8", "replace")
        return kind, answers, {"error": error if kind == ERROR else "", "text": text, "body": body.decode("latin-1")}

    def answer(self, serial):
        while True:
            _, answers, result = self.receive()
            if answers == serial:
                return result

    def call(self, *what, **how):
        return self.answer(self.send(*what, **how))


def calls(bus, listed, flags=0):
    return [bus.call(*call, flags=flags) for call in listed]


def with_agent(listed, password):
    """An agent registers for this process; a thread types the password whenever it is asked for."""
    import pty
    import threading

    read, write = os.pipe()
    child, terminal = pty.fork()
    if child == 0:
        os.close(read)
        os.set_inheritable(write, True)
        os.execv("/usr/bin/pkttyagent",
                 ["pkttyagent", "--fallback", "--process", str(os.getppid()), "--notify-fd", str(write)])
    os.close(write)

    def type_password():
        seen = b""
        while True:
            # What is typed before the agent has switched the echo off is lost, so it is typed again and again.
            ready, _, _ = select.select([terminal], [], [], 1 if b"assword:" in seen else None)
            try:
                if ready:
                    seen += os.read(terminal, 4096)
                elif b"assword:" in seen:
                    os.write(terminal, password.encode() + b"\n")
            except OSError:
                return

    threading.Thread(target=type_password, daemon=True).start()
    os.read(read, 1)  # the end of file says that it is registered
    return calls(Bus(), listed, ALLOW_DIALOG)


def burst(count, call):
    bus = Bus()
    pid = os.fork()
    if pid == 0:
        for serial in range(1, count + 1):
            bus.socket.sendall(message(serial + 1, *call))
        os._exit(0)
    told = {}
    left = count
    while left:
        _, answers, result = bus.receive()
        if answers > 1:
            left -= 1
            told[result["error"]] = told.get(result["error"], 0) + 1
    os.waitpid(pid, 0)
    return told


def hostile():
    """What the bus must refuse, and what it hands on although nobody means it; each on a connection of its own."""
    manager = ("/org/watcherd1", "org.watcherd1.Manager")
    properties = ("/org/watcherd1", "org.freedesktop.DBus.Properties")
    good = message(2, *manager, "GetWorker", "s", ["w"])

    def nested(depth):
        value = ["s", "x"]
        for _ in range(depth):
            value = ["v", value]
        return value

    return {
        "noise": os.urandom(4096),
        "endless": good[:4] + struct.pack("<I", 0xFFFFFFFF) + good[8:],
        "too large": message(2, *manager, "GetWorker", "s", ["x" * (70 << 20)]),
        "other bytes at its end": good[:-3] + b"\xff\xff\xff",
        "no text": message(2, *manager, "GetWorker", "s", ["w\udcff\udcfe"]),
        "a NUL": message(2, *manager, "GetWorker", "s", ["w\0x"]),
        "a signature that lies": good.replace(b"\x08\x01g\x00\x01s\x00", b"\x08\x01g\x00\x01t\x00"),
        "too deep": message(2, *manager, "ListIncidents", "a{sv}", [{"worker": nested(100)}]),
        "no such version": good[:3] + b"\x09" + good[4:],
        "no serial": good[:8] + b"\0\0\0\0" + good[12:],
        "large": message(2, *manager, "GetWorker", "s", ["x" * (16 << 20)]),
        "many": message(2, *manager, "Start", "asst", [["w"] * 1000000, "", 0]),
        "many pairs": message(2, *manager, "ListIncidents", "a{sv}", [{"k%d" % n: ["u", n] for n in range(100000)}]),
        "deep": message(2, *manager, "ListIncidents", "a{sv}", [{"worker": nested(55)}]),
        "another type": message(2, *manager, "GetWorker", "t", [7]),
        "no argument": message(2, *manager, "GetWorker"),
        "too many arguments": message(2, *manager, "GetWorker", "ss", ["absent", "w"]),
        "no such member": message(2, *manager, "Explode"),
        "no such property": message(2, *properties, "Get", "ss", ["org.watcherd1.Manager", "Explode"]),
        "a property that cannot be set": message(2, *properties, "Set", "ssv",
                                                 ["org.watcherd1.Manager", "DryRun", ["b", True]]),
        "a property of another type": message(2, "/org/freedesktop/LogControl1", properties[1], "Set", "ssv",
                                              ["org.freedesktop.LogControl1", "LogLevel", ["au", [1, 2]]]),
        "no such object": message(2, "/org/watcherd1/worker/" + "_2e" * 1000, "org.watcherd1.Worker", "ResetQuarantine"),
    }


def raw(data):
    bus = Bus(60)
    try:
        bus.socket.sendall(data)
        return bus.answer(2)["error"] or "success"
    except (OSError, struct.error, IndexError):
        return "the bus hung up"


def descriptors(count):
    """Calls that bring descriptors nobody has asked for."""
    bus = Bus()
    for serial in range(2, count + 2):
        data = bytearray(message(serial, "/org/watcherd1", "org.watcherd1.Manager", "GetWorker", "s", ["w"]))
        # One more header field: how many descriptors come with it.
        fields = struct.unpack_from("<I", data, 12)[0]
        body = data[16 + fields + -fields % 8:]
        head = data[:16 + fields]
        pad(head, 8)
        head += b"\x09\x01u\x00" + struct.pack("<I", 8)
        struct.pack_into("<I", head, 12, len(head) - 16)
        pad(head, 8)
        socket.send_fds(bus.socket, [bytes(head + body)], [0] * 8)
    told = {}
    while len(told) < count:
        _, answers, result = bus.receive()
        if answers > 1:
            told[answers] = result["error"]
    return list(told.values())


def main():
    what = sys.argv[1]
    if what == "hostile":
        told = {name: raw(data) for name, data in hostile().items()}
    elif what == "descriptors":
        told = descriptors(int(sys.argv[2]))
    elif what == "burst":
        with open(sys.argv[3]) as file:
            told = burst(int(sys.argv[2]), json.load(file)[0])
    else:
        with open(sys.argv[2]) as file:
            listed = json.load(file)
        if what == "agent":
            told = with_agent(listed, sys.argv[3])
        else:
            told = calls(Bus(), listed, ALLOW_DIALOG if what == "dialog" else 0)
    out = open(sys.argv[3], "w") if what == "call" and len(sys.argv) > 3 else sys.stdout
    json.dump(told, out)
    out.close()


main()
