# An upstream that fails as the path of a request says: server.py ADDRESS PORT BACKLOG WORKERS; the address may be a path
import ctypes, os, signal, socket, struct, sys, threading, time

address, port, backlog, workers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
if address.startswith("/"):
    os.umask(0)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
else:
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
listener.listen(backlog)


def say(text):
    os.write(1, f"{text} {os.getpid()}\n".encode())


def serve(client):
    head = b""
    while b"\r\n\r\n" not in head:
        more = client.recv(65536)
        if not more:
            return
        head += more
    path = head.split()[1].decode()
    say("request")
    if "/half" in path or "/cut" in path or "/part" in path:
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        say("half")
    if "/hang" in path or "/half" in path:
        signal.pause() if threading.current_thread() is threading.main_thread() else time.sleep(60)
    elif "/exit" in path:
        os._exit(3)
    elif "/crash" in path:
        ctypes.string_at(0)
    elif "/probes" in path:
        for option, value in ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 1)):
            client.setsockopt(socket.IPPROTO_TCP, option, value)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        say("probes")
        time.sleep(60)
    elif "/eat" in path:
        eaten = []
        while True:
            eaten.append(b"x" * (1 << 20))
    elif "/patient" in path:
        client.recv(1)
        client.close()
        return
    elif "/close" in path or "/cut" in path or "/part" in path:
        if "/cut" in path:
            # It has been read by then; a close that sends a RST.
            time.sleep(0.1)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        return
    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n")
    client.close()


def loop():
    while True:
        client, _ = listener.accept()
        threading.Thread(target=serve, args=(client,), daemon=True).start()


if backlog == 0:
    say("ready")
    threading.Event().wait()
elif workers == 0:
    say("ready")
    loop()
else:
    children = []
    for _ in range(workers):
        pid = os.fork()
        if pid == 0:
            say("ready")
            loop()
        children.append(pid)
    # As a supervisor whose worker took too long.
    signal.signal(signal.SIGUSR1, lambda *_: [os.kill(child, signal.SIGABRT) for child in children])
    while True:
        try:
            os.wait()
        except ChildProcessError:
            signal.pause()
