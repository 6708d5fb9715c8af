"""A server of interpreters that have imported what takes seconds, and nothing of RecBole or recbole_ib; see ``processes``.

Reads a request a line (words of a command, folder, environment, files for the output), forks, and answers with the exit status.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import sys
import threading
import traceback
import types
import warnings

#: imported before any fork; not Ray, hyperopt or matplotlib: tests look at whether they are imported
THIRD_PARTY = (
    "torch",
    "torch.distributed",
    "torch.utils.tensorboard",
    "pandas",
    "pyarrow",
    "scipy.sparse",
    "scipy.stats",
    "scipy.sparse.csgraph",
    "sklearn.metrics",
    "sklearn.neighbors",
    "sklearn.ensemble",
    "kmeans_pytorch",
    "yaml",
    "colorlog",
    "colorama",
    "texttable",
    "psutil",
    "tqdm",
)


def prepare() -> None:
    for name in THIRD_PARTY:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    gc.collect()
    gc.freeze()


def serve() -> dict:
    """Answer until the input ends; returns in a fork, with the request that it is to run."""
    own_path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [entry for entry in sys.path[1:] if entry not in own_path]
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            answers.close()
            return request
        answers.write(json.dumps(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])) + "\n")
        answers.flush()
    sys.exit()


def become(request: dict) -> None:
    """Folder, environment, streams and paths of the process that was asked for."""
    for number, (name, flags) in enumerate(
        [(os.devnull, os.O_RDONLY), (request["stdout"], os.O_WRONLY), (request["stderr"], os.O_WRONLY)]
    ):
        file = os.open(name, flags)
        os.dup2(file, number)
        os.close(file)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    if request["env"].get("PYTHONWARNINGS") == "ignore":
        warnings.simplefilter("ignore")
    signal.alarm(request["timeout"])
    words, entries = request["words"], filter(None, request["env"].get("PYTHONPATH", "").split(os.pathsep))
    first = os.path.dirname(os.path.abspath(words[0])) if words[0].endswith(".py") else os.getcwd()
    sys.path[:0] = [first, *entries]
    sys.path_importer_cache.clear()


def execute(words: list[str]) -> int:
    """As ``python WORDS``; the exit status."""
    try:
        _run(words)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if status and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def _run(words: list[str]) -> None:
    if words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(words[1], "<string>", "exec"), vars(main))
    elif words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    prepare()
    asked = serve()
    become(asked)
    # not the interpreter's own end: taking all that was imported apart takes a second
    os._exit(execute(asked["words"]))
