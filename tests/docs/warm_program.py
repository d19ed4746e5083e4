"""`msdtool` without its start-up time: a server imports everything once and forks per command.

Run as ``python -m tests.docs.warm_program SOCKET``. The client that `install` writes hands its
arguments, folder, environment and standard streams to the server and exits with the command's code.
"""

import json
import os
import socket
import sys
from pathlib import Path

CLIENT = f"""\
#!{sys.executable} -SE
import json, os, socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect({{address!r}})
request = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)])
socket.send_fds(connection, [request.encode()], [0, 1, 2])
sys.exit(int(connection.recv(8) or b"1"))
"""

SMALL = {
    "foam": {"SIZE": 128, "NUM_SLICES": 20, "NUM_BUBBLES": 20, "VIEWS": 32},
    "tomograms": {"SIZE": 128, "VIEWS": 16, "WINDOWS": {"train": 1, "validation": 1, "test": 1}},
    "shapes": {"SIZE": 128, "PARTS": {"train": 4, "validation": 2, "test": 2}},
}
"""Demo data sets that take a second."""

SHORT = ["--set", "training.epochs=1"]
SHORTEST = [*SHORT, "--set", "network.depth=4", "--set", "run.previews=false"]
"""What every training gets; the second where the environment has SHORTEST."""


WARM = (
    *(f"msdtool.{room}" for room in ("cli", "train.run", "predict", "evaluate", "check", "doctor")),
    "matplotlib.pyplot",
)


def install(program: Path, address: str) -> None:
    """Write an executable that has the server at ``address`` run `msdtool`."""
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(CLIENT.format(address=address), encoding="utf-8")
    program.chmod(0o755)


def serve(address: str) -> None:
    """Answer clients one after another until killed; a pipeline's commands run side by side."""
    from importlib import import_module

    for module in WARM:
        import_module(module)
    for name, values in SMALL.items():
        demo = import_module(f"msdtool.demo.{name}")
        for constant, value in values.items():
            assert hasattr(demo, constant)
            setattr(demo, constant, value)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(16)
        print("ready", flush=True)
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                connection.send(str(_answer(connection)).encode())
                os._exit(0)
            connection.close()
            while any(os.waitpid(-1, os.WNOHANG)):
                pass


def _answer(connection: socket.socket) -> int:
    """Run the command of a client, in its folder and on its streams; return its exit code."""
    from msdtool.cli import main

    request, streams, _, _ = socket.recv_fds(connection, 2**16, 3)
    arguments, folder, environment = json.loads(request)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if arguments[:1] == ["train"]:
        arguments += SHORTEST if "SHORTEST" in environment else SHORT
    sys.argv = ["msdtool", *arguments]
    try:
        main()
    except SystemExit as exit:
        return int(exit.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


if __name__ == "__main__":
    serve(sys.argv[1])
