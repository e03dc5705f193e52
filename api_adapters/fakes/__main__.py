"""Run one practice server: `python -m api_adapters.fakes bas_ip --items 1000`."""

import argparse

from api_adapters.fakes.server import open_practice, serve, vendors


def main() -> None:
    """Read the command line and serve until told to stop."""
    given = _parser().parse_args()
    practice = open_practice(
        given.vendor,
        items=given.items,
        seed=given.seed,
        misbehave=given.misbehave,
        latency=given.latency,
    )
    practice.poison.update(given.poison)
    serve(practice, port=given.port, ends_with_parent=given.ends_with_parent)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m api_adapters.fakes", description=__doc__)
    parser.add_argument("vendor", choices=vendors())
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--items", type=int, default=0, help="how many things there are to delete")
    parser.add_argument("--seed", type=int, default=0, help="of the ids and of chance")
    parser.add_argument("--misbehave", default="", help="a plan such as lost/50,busy:2=0.01")
    parser.add_argument(
        "--poison", action="append", default=[], help="an item that makes it refuse a call"
    )
    parser.add_argument("--latency", type=float, default=0, help="seconds that each deletion takes")
    parser.add_argument("--ends-with-parent", action="store_true")
    return parser


main()
