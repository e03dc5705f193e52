"""A running Flower, to be asked over HTTP."""

import base64
import json
import urllib.error
import urllib.request
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from tests.integration.service import Service
from worker.client import Refused
from worker.embedded.commands import CELERY
from worker.embedded.processes import Command

#: What is shipped for a Flower of its own.
CONFIGURATION = Path(__file__).parents[2] / "deploy" / "flower" / "flowerconfig.py"


@dataclass(frozen=True, slots=True)
class Flower:
    """One Flower and what is sent with each request."""

    port: int
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def with_password(cls, port: int, user: str, password: str) -> Self:
        """Asked with this password."""
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        return cls(port, {"Authorization": f"Basic {token}"})

    def ask(
        self, path: str, *, data: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, str]:
        """The status and text of a page."""
        named = self.headers if headers is None else headers
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data=data, headers=named
        )
        try:
            with closing(urllib.request.urlopen(request, timeout=10)) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()

    def search(self, text: str) -> list[dict[str, Any]]:
        """What the search field of the tasks page finds."""
        query = f"/tasks/datatable?draw=1&start=0&length=100&search%5Bvalue%5D={text}"
        query += "&order%5B0%5D%5Bcolumn%5D=0&order%5B0%5D%5Bdir%5D=asc"
        query += "&columns%5B0%5D%5Bdata%5D=name"
        status, told = self.ask(query)
        assert status == 200, told
        found: list[dict[str, Any]] = json.loads(told)["data"]
        return found

    def has_settled(self, job: str) -> bool:
        """Whether it shows a job's tally."""
        return any(one["result"] for one in self.runs(job, "deletions.settle"))

    def has_seen_all(self, job: str) -> bool:
        """Whether it shows a slice that deleted for a job too: that ends after the job."""
        return self.has_settled(job) and bool(self.runs(job, "deletions.execute"))

    def runs(self, job: str, task: str) -> list[dict[str, Any]]:
        """What it shows of a task's runs that name a job."""
        return [one for one in self.search(job) if one["name"] == task]

    def answers(self) -> bool:
        """Whether it is up."""
        try:
            return self.ask("/healthcheck")[0] == 200
        except OSError:
            return False

    def hears(self, service: Service) -> bool:
        """Whether it sees a message that is sent now: it shows workers before that."""
        with service.client() as client, suppress(Refused):
            client.status(str(uuid4()))
        return bool(self.search("deletions.status"))


def shipped_command(port: int, *, users: str) -> Command:
    """Flower as a deployment starts it."""
    variables = {"FLOWER_BASIC_AUTH": users, "FLOWER_PORT": str(port)}
    return Command("flower", (*CELERY, "flower", f"--conf={CONFIGURATION}"), variables=variables)
