"""A practice server runs as a process of its own, and knows no secret by sight."""

from pathlib import Path

import pytest

from worker.cli.practice_backend import PracticeBackend
from worker.cli.vendors import VENDORS
from worker.settings import load_configuration


@pytest.mark.parametrize("name", VENDORS)
def test_a_server_is_a_valid_target_whose_secrets_are_in_the_environment(
    name: str, tmp_path: Path
) -> None:
    with PracticeBackend(name, VENDORS[name], items=100, seed=1) as backend:
        file = tmp_path / "deletions.toml"
        file.write_text(backend.configuration)
        targets = load_configuration(file).targets

    assert targets[name].settings.adapter == name
    assert backend.environment
    assert not any(secret in file.read_text() for secret in backend.environment.values())


def test_a_report_of_nothing_is_held_against_a_server_that_lost_nothing() -> None:
    with PracticeBackend("bas_ip", VENDORS["bas_ip"], items=100, seed=1) as backend:
        number, faults = backend.faults([])
        trouble = backend.trouble

    assert number == 0
    assert len(faults) == len({str(item).lower() for item in backend.asked})
    assert all("has 0 outcomes" in fault for fault in faults)
    assert trouble == "0 calls, of which none went wrong"
