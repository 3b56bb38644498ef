# A WSGI application that fails as the path of a request says. What it does it notes in the file `said`, with its pid.
import ctypes, os, signal, time

DIRECTORY = os.path.dirname(os.path.abspath(__file__))


def say(word):
    with open(os.path.join(DIRECTORY, "said"), "a") as said:
        said.write(f"{word} {os.getpid()}\n")


def application(environ, start_response):
    path = environ["PATH_INFO"]
    say(path.split("/")[-1])
    if path.endswith("hang"):
        time.sleep(60)
    elif path.endswith("exit"):
        os._exit(1)
    elif path.endswith("crash"):
        ctypes.string_at(0)
    elif path.endswith("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "3")])
    return [b"ok\n"]
