#!/usr/bin/python3
# What docker-proxy does: passes connections on to a container.
import socket, sys, threading

options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind((options["-host-ip"], int(options["-host-port"])))
listener.listen(64)
container = (options["-container-ip"], int(options["-container-port"]))


def copy(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    for end, how in ((source, socket.SHUT_RD), (target, socket.SHUT_WR)):
        try:
            end.shutdown(how)
        except OSError:
            pass


def serve(client):
    try:
        server = socket.create_connection(container)
    except OSError:
        client.close()
        return
    back = threading.Thread(target=copy, args=(server, client), daemon=True)
    back.start()
    copy(client, server)
    back.join()
    server.close()
    client.close()


print("ready", __import__("os").getpid(), flush=True)
while True:
    client, _ = listener.accept()
    threading.Thread(target=serve, args=(client,), daemon=True).start()
