"""`deletions demo`: everything at once."""

from pathlib import Path

from tests.acceptance.terminal import Terminal
from worker.cli.vendors import VENDORS


def test_a_small_demonstration_ends_well_and_leaves_nothing(terminal: Terminal) -> None:
    ended = terminal.run(
        "demo", "--items=500", "--rows=1000", environ={"TMPDIR": str(terminal.folder)}
    )

    assert ended.code == 0, ended
    assert "outcomes agree with the ledgers of the backends, item by item" in ended.out
    for target in (*VENDORS, "visitors"):
        assert f" on {target}: completed after" in ended.out
    assert terminal.processes() == {}
    assert [path.name for path in Path(terminal.folder).iterdir()] == ["deletions.toml"]
