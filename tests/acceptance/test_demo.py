"""`deletions demo`: everything at once."""

from pathlib import Path

from tests.acceptance.terminal import Terminal


def test_a_small_demonstration_ends_well_and_leaves_nothing(terminal: Terminal) -> None:
    ended = terminal.run(
        "demo", "--items=600", "--rows=1000", environ={"TMPDIR": str(terminal.folder)}
    )

    assert ended.code == 0, ended
    assert "outcomes agree with what is left on the monitors and in the table" in ended.out
    assert ended.out.count("completed after") == 3
    assert terminal.processes() == {}
    assert [path.name for path in Path(terminal.folder).iterdir()] == ["deletions.toml"]
