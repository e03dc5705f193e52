"""Adapters are found by name, also a stranger's, and none is imported early."""

import subprocess
import sys
from pathlib import Path

import pytest

from api_adapters import registry
from api_adapters.bas_ip import BasIp
from api_adapters.errors import BadSettings

STRANGER = """
from api_adapters.base import Adapter

class Pigeon(Adapter):
    def __init__(self, settings, *, pace): ...
    def key(self, item): return str(item)
    def delete(self, items, *, until): ...
    def check(self, *, until): ...
"""


def install(site: Path, name: str, entry_point: str) -> None:
    """Lay down a package as an installer would."""
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{entry_point}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_our_own_adapter_is_loaded_by_name() -> None:
    assert registry.load("bas_ip") is BasIp


def test_an_unknown_name_is_told_beside_the_known_ones() -> None:
    with pytest.raises(BadSettings, match=r"^names adapter 'nimbel'; installed: .*bas_ip"):
        registry.load("nimbel")


def test_a_strangers_package_adds_an_adapter(site: Path) -> None:
    (site / "pigeon_post.py").write_text(STRANGER)
    install(site, "pigeon-post", "pigeon = pigeon_post:Pigeon")

    assert "pigeon" in registry.installed()
    assert registry.load("pigeon").__name__ == "Pigeon"


def test_a_missing_package_is_named_with_what_to_install(site: Path) -> None:
    (site / "pigeon_needs_loft.py").write_text("import loft_that_is_nowhere\n")
    install(site, "pigeon-loft", "loft = pigeon_needs_loft:Pigeon")

    with pytest.raises(BadSettings, match="install the package of 'loft_that_is_nowhere'"):
        registry.load("loft")


def test_a_missing_extra_is_named(site: Path) -> None:
    (site / "pigeon_extra.py").write_text("import loft_that_is_nowhere\n")
    install(site, "pigeon-extra", "extra = pigeon_extra:Pigeon [far]")

    with pytest.raises(BadSettings, match=r"install 'pigeon-extra\[far\]'"):
        registry.load("extra")


@pytest.mark.parametrize(
    ("value", "told"), [("pigeon_bad:Nobody", "there is no"), ("pigeon_bad:x", "no subclass")]
)
def test_an_entry_point_that_leads_to_no_adapter_is_told(site: Path, value: str, told: str) -> None:
    (site / "pigeon_bad.py").write_text("x = 1\n")
    install(site, "pigeon-bad", f"bad = {value}")

    with pytest.raises(BadSettings, match=told):
        registry.load("bad")


def test_one_name_offered_by_two_packages_is_refused(site: Path) -> None:
    install(site, "pigeon-one", "twice = one:Pigeon")
    install(site, "pigeon-two", "twice = two:Pigeon")

    with pytest.raises(BadSettings, match="one:Pigeon and two:Pigeon: uninstall one"):
        registry.load("twice")


def test_nothing_is_imported_until_it_is_asked_for() -> None:
    script = """
import sys
from api_adapters import registry
assert "bas_ip" in registry.installed()
assert not {"api_adapters.bas_ip", "httpcore2", "pytest", "tornado"} & set(sys.modules)
registry.load("bas_ip")
assert "api_adapters.bas_ip" in sys.modules
assert not {"pytest", "tornado"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
