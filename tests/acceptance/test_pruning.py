"""What was kept for long enough is dropped, and every command says so."""

from tests.acceptance.terminal import Monitor, Terminal
from tests.integration.service import wait_until


def test_a_pruned_job_is_told_without_its_items() -> None:
    with Terminal({"monitor": Monitor(items=5)}, more='[store]\nretain_for = "1s"') as terminal:
        ids = terminal.ids(3)
        assert terminal.run("run", "monitor", *ids, "--yes").code == 0
        (job,) = [one["id"] for one in terminal.run("jobs", "--json").rows]
        before = terminal.run("status", job, "--json").out
        wait_until(lambda: job in terminal.run("prune", "--dry-run").out)

        pruned = terminal.run("prune", "--by", "Ann")

        assert "dropped the items of 1 jobs" in pruned.err
        assert terminal.run("status", job, "--json").out == before
        results = terminal.run("results", job)
        assert (results.code, results.out) == (4, "")
        assert "were dropped at" in results.err
        assert terminal.run("item", "monitor", ids[0]).code == 4
        assert terminal.run("retry", job).code == 2
        files = sorted(terminal.data_dir.glob("*sqlite*"))
        assert files
        assert all(ids[0].encode() not in path.read_bytes() for path in files)
