"""The README as tests read it: its blocks of code, and the text around them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
#: The page without its blocks.
PAGE = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """One block of code."""

    kind: str
    text: str
    #: The heading above it, for whoever reads a failure.
    heading: str

    @property
    def commands(self) -> list[str]:
        """What a person types, without remarks."""
        lines = [line for line in self.text.splitlines() if line.startswith("$ ")]
        return [re.sub(r"\s+#.*", "", line.removeprefix("$ ")) for line in lines]


def blocks() -> Iterator[Block]:
    """Every block, as they stand there."""
    heading = ""
    for match in re.finditer(
        r"^(?:#+ (?P<heading>[^\n]*)|```(?P<kind>\w*)\n(?P<text>.*?)^```)$",
        README,
        re.MULTILINE | re.DOTALL,
    ):
        if match["heading"]:
            heading = match["heading"]
        else:
            yield Block(match["kind"], match["text"], heading)


def block(kind: str, holding: str) -> Block:
    """The one block of that kind that holds a text."""
    (found,) = [one for one in blocks() if one.kind == kind and holding in one.text]
    return found
