"""The process that commands are forks of; see sitecustomize.

python tests/quickjobs/server.py ADDRESS
"""

import atexit
import contextlib
import importlib
import io
import json
import os
import pkgutil
import signal
import socket
import sys
import threading
from pathlib import Path

import snakemake.cli
import torch
import torch._dynamo  # which every optimiser imports, in over a second
import torch.utils.tensorboard

import mstkd.cli.app
from mstkd.config.results import ClaimsSettings
from mstkd.report.canvas import new_figure
from mstkd.report.claims import _published

MAINS = {"mstkd": mstkd.cli.app.main, "snakemake": snakemake.cli.main}


def take(connection):
    """One command, in a fork that dies when whoever gave it does."""
    data, files, _, _ = socket.recv_fds(connection, 1 << 20, 3)
    while not data.endswith(b"\n"):
        data += connection.recv(1 << 20)
    order = json.loads(data)
    child = os.fork()
    if child:
        for file in files:
            os.close(file)
        threading.Thread(target=reap, args=(child, connection), daemon=True).start()
        return
    # A leader of its own, so that what it starts dies with it.
    os.setpgid(0, 0)
    for number, file in enumerate(files):
        os.dup2(file, number)
    threading.Thread(target=end_with, args=(connection,), daemon=True).start()
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv = order["command"]
    atexit._clear()  # what the server registered
    code = 0
    try:
        MAINS[Path(sys.argv[0]).name]()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def end_with(connection):
    connection.recv(1)
    os.killpg(0, signal.SIGKILL)


def reap(child, connection):
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(OSError), connection:
        connection.sendall(f"{os.waitstatus_to_exitcode(status) % 256}\n".encode())


def serve(address):
    torch.set_num_threads(1)
    for module in pkgutil.walk_packages(mstkd.__path__, "mstkd."):
        importlib.import_module(module.name)
    for kind in ("png", "svg", "pdf"):  # whose writers load themselves and their fonts when asked
        figure = new_figure(2, 2)
        figure.suptitle("Title")
        axes = figure.subplots()
        axes.set_title("Panel", fontsize=8)
        axes.set(xscale="log", yscale="log", xlim=(1e-3, 1), ylim=(1e-3, 1))  # powers of ten
        figure.savefig(io.BytesIO(), format=kind)
    _published(ClaimsSettings().draws)  # the paper's rows, which are the same for all
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen(64)
        print("ready", flush=True)
        while True:
            take(server.accept()[0])


if __name__ == "__main__":
    serve(sys.argv[1])
