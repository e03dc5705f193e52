"""The image: not root, nothing but the program in it, and a build that sees no secret."""

import re

import pytest

from tests.deploy.tools import check
from tests.deploy.written import IMAGE, ROOT, default_command, in_kubernetes


def lines(instruction: str) -> list[str]:
    """The arguments of every such instruction, in order."""
    text = IMAGE.read_text().replace("\\\n", " ")
    return re.findall(rf"^{instruction} +(.*)$", text, re.MULTILINE)


def test_the_linter_of_image_files_is_content() -> None:
    check("hadolint", "--failure-threshold", "info", IMAGE, cwd=ROOT)


def test_what_builds_it_stays_behind() -> None:
    assert len(lines("FROM")) == 2
    assert [one for one in lines("COPY") if one.startswith("--from=build")] == [
        "--from=build /opt/deletions /opt/deletions"
    ]


def test_it_is_not_root() -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", lines("USER")[-1])


def test_every_wheel_is_held_against_its_hash() -> None:
    installs = [one for run in lines("RUN") for one in run.split("&&") if " pip " in one]
    installs += [one for run in lines("RUN") for one in run.split("&&") if "/pip " in one]
    foreign = [one for one in installs if re.search(r"\b(?:download|install|wheel) ", one)]

    assert foreign
    assert [
        one for one in foreign if "--require-hashes" not in one and "--no-index" not in one
    ] == []


@pytest.mark.parametrize("instruction", ["ENV", "ARG", "COPY", "ADD"])
def test_no_secret_is_in_it(instruction: str) -> None:
    suspicious = re.compile(r"PASSWORD|TOKEN|SECRET|_URL|\.env|\.toml", re.IGNORECASE)

    found = [one for one in lines(instruction) if suspicious.search(one)]

    allowed = [one for one in found if "pyproject.toml" in one or "DELETIONS_CONFIG=" in one]
    assert found == allowed


def test_the_build_sees_what_it_copies_and_nothing_else() -> None:
    first, *let_in = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] not in "#"
    ]
    copied = {
        name for one in lines("COPY") if not one.startswith("--from") for name in one.split()[:-1]
    }

    assert first == "*"
    assert {line[1:] for line in let_in if line.startswith("!")} == copied
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_it_is_a_worker_unless_it_is_told_otherwise() -> None:
    assert default_command() == in_kubernetes()["worker"].arguments
