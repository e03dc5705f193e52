"""The units: systemd understands them, they are closed, and they can be enabled."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.deploy.tools import check
from tests.deploy.written import DEPLOY, UNITS, in_units

#: A higher exposure, in tenths, is a rule that somebody took out.
MOST_EXPOSED = 15


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units beside programs that are there: systemd asks whether it could start them."""
    programs = Path(sys.executable).parent
    shutil.copytree(UNITS, tmp_path / "units")
    for path in (tmp_path / "units").glob("*.service"):
        path.write_text(path.read_text().replace("/opt/deletions/bin", str(programs)))
    return tmp_path / "units"


def names() -> list[str]:
    return [name.replace("@.", "@1.") for name in in_units()]


def test_systemd_understands_them(units: Path) -> None:
    # The colon at the end: beside its own.
    said = check(
        "systemd-analyze",
        *("verify", "--man=no", *names(), "deletions.target"),
        cwd=units,
        environ={"SYSTEMD_UNIT_PATH": f"{units}:"},
    )

    assert "deletions" not in said


@pytest.mark.parametrize("name", names())
def test_a_unit_can_do_nothing_but_its_work(units: Path, name: str) -> None:
    check(
        "systemd-analyze",
        *("security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSED}", name),
        cwd=units,
        environ={"SYSTEMD_UNIT_PATH": f"{units}:"},
    )


def test_they_are_enabled_as_the_readme_says(tmp_path: Path) -> None:
    shutil.copytree(UNITS, tmp_path / "etc/systemd/system")
    readme = (DEPLOY / "README.md").read_text()
    (line,) = [one for one in readme.splitlines() if "systemctl enable --now" in one]
    wanted = line.split("--now", 1)[1].split("#")[0].split()

    check("systemctl", f"--root={tmp_path}", "enable", *wanted, cwd=tmp_path)

    enabled = {path.name for path in tmp_path.rglob("*.wants/*")}
    assert enabled == {one.removesuffix(".target") + ".service" for one in wanted[1:]} | {
        "deletions.target"
    }


def test_no_secret_is_in_them() -> None:
    for path in UNITS.rglob("*.service*/*"):
        assert "PASSWORD" not in path.read_text()
    for started in in_units().values():
        assert not any("://" in one or "PASSWORD" in one for one in started.arguments)
        assert all("PASSWORD" in value for value in started.variables.values())
