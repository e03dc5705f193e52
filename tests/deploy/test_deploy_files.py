"""What holds for all files of deploy/, whatever they are for."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.deploy.tools import check
from tests.deploy.written import DEPLOY, ROOT

README = (DEPLOY / "README.md").read_text()


def test_no_key_stands_twice_and_all_is_indented_soundly() -> None:
    rules = "{key-duplicates: {}, indentation: {spaces: 2}, trailing-spaces: {}, new-lines: {}}"

    check("yamllint", "--strict", "-d", f"{{rules: {rules}}}", DEPLOY, cwd=ROOT)


@pytest.mark.parametrize("script", sorted(DEPLOY.rglob("*.sh")), ids=lambda path: path.name)
def test_a_shell_reads_a_script(script: Path) -> None:
    assert script.stat().st_mode & 0o111
    subprocess.run(["sh", "-n", script], check=True)


def test_the_readme_names_what_is_there() -> None:
    linked = set(re.findall(r"\]\(([^)#:]+)\)", README))

    assert linked
    assert [one for one in linked if not (DEPLOY / one).exists()] == []


def test_a_newcomer_is_told_of_every_directory() -> None:
    directories = {path.name for path in DEPLOY.iterdir() if path.is_dir()}

    assert [name for name in sorted(directories) if f"`{name}/`" not in README] == []
