"""Importing a module does nothing: it reads no environment, opens nothing, makes no file."""

import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import api_adapters
import worker

#: Programs, and the script that alembic runs: importing them is running them.
RUN_NOT_IMPORTED = {"api_adapters.fakes.__main__", "worker.store.migrations.env"}

#: Imports every module where all that it could touch is hostile, and tells what it did.
IMPORT = """
import importlib, json, os, sys
import wsgiref.handlers  # It comes with prometheus_client, and copies the environment.
seen = []
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
def watch(event, arguments):
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES:
        seen.append(f"opened {arguments[0]}")
    elif event in {"socket.connect", "socket.bind", "socket.getaddrinfo", "subprocess.Popen",
                   "os.mkdir", "os.remove", "os.rename", "os.fork", "os.exec", "os.system",
                   "sqlite3.connect", "os.putenv", "os.chdir"}:
        seen.append(f"{event} {arguments}")
class Watched(type(os.environ)):
    def __getitem__(self, name):
        if str(name).startswith(("DELETIONS_", "FLOWER_", "SECRET_")):
            seen.append(f"read {name}")
        return super().__getitem__(name)
os.environ.__class__ = Watched
sys.addaudithook(watch)
told = {}
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
    if seen:
        told[name] = list(seen)
        seen.clear()
print(json.dumps(told))
"""


def modules() -> list[str]:
    return [
        found.name
        for package in (api_adapters, worker)
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if found.name not in RUN_NOT_IMPORTED
    ]


def test_importing_any_module_does_nothing(tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "deletions.toml").write_text("no toml [")
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONWARNINGS": "error",
        "DELETIONS_CONFIG": "/nowhere/deletions.toml",
        "DELETIONS_BROKER_URL": "nonsense",
        "DELETIONS_STORE_URL": "nonsense",
        "DELETIONS_DATA_DIR": str(tmp_path / "data"),
    }

    done = subprocess.run(
        [sys.executable, "-P", "-c", IMPORT, json.dumps(modules())],
        cwd=here,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {}
    assert {path.name for path in tmp_path.rglob("*")} == {"here", "deletions.toml"}
