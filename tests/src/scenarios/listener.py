#!/usr/bin/env python3
"""Listens on a port in one of several ways, and says so. SIGUSR1: it ceases to listen, and lives on."""

import os
import signal
import socket
import sys
import time

kind, port = sys.argv[1], int(sys.argv[2])
listener = socket.socket(socket.AF_INET6 if kind == "six" else socket.AF_INET)
if kind == "six":
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
if kind == "shared":
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
listener.bind(("::" if kind == "six" else "127.0.0.1", port))
listener.listen(64)


def cease(*_):
    listener.close()
    # Not by print(): the signal may come before the last one has returned.
    os.write(1, b"closed %d\n" % os.getpid())


signal.signal(signal.SIGUSR1, cease)
print("ready", os.getpid(), flush=True)
while kind == "shared":
    connection, _ = listener.accept()
    connection.recv(9999)
    connection.send(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
    connection.close()
if kind in ("leaves", "half"):
    connection, _ = listener.accept()
    connection.recv(9999)
    if kind == "half":
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        # Longer than a tick of the kernel's clock: before, it looks like a close without an answer.
        time.sleep(0.1)
    connection.close()
if kind == "leaves":
    time.sleep(0.2)
    os._exit(4)
while True:
    signal.pause()
