"""Count how far one training step and one ranking of a model jump through the source files of the package.

    python benchmarks/hops.py [--model IBMRec] [--source DIR]

One batch on planted data under sys.setprofile: calls of the package's functions, distinct functions, distinct files, and hops, which are
calls of a function in another file of the package than the one that called. ``--source``: another checkout, an older one too.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any


class Trace:
    """The calls between functions of one package while a function runs."""

    def __init__(self, package: Path):
        self.package = f"{package}{os.sep}"
        self.calls, self.hops = 0, 0
        self.functions: set[tuple[str, str, int]] = set()

    def run(self, function: Callable[[], Any]) -> None:
        """Run a function and count."""
        sys.setprofile(self._event)
        try:
            function()
        finally:
            sys.setprofile(None)

    def _event(self, frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(self.package) or code.co_name.startswith("<"):
            return
        self.calls += 1
        self.functions.add((code.co_filename, code.co_name, code.co_firstlineno))
        caller = frame.f_back
        # the frames of torch between two functions of the package are not files to open
        while caller is not None and not caller.f_code.co_filename.startswith(self.package):
            caller = caller.f_back
        self.hops += caller is not None and caller.f_code.co_filename != code.co_filename

    def __str__(self) -> str:
        files = {file for file, _, _ in self.functions}
        return f"{self.calls} calls of {len(self.functions)} functions in {len(files)} files, {self.hops} hops between files"


def main() -> int:
    """Print the counts of a step and of a ranking."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="IBMRec", help="a model of the catalog (default: %(default)s)")
    parser.add_argument("--source", type=Path, default=Path(__file__).parents[1], help="a checkout (default: this one)")
    args = parser.parse_args()
    sys.path[:0] = [str(args.source.resolve()), str(Path(__file__).parent)]
    from equality import planted_run

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        run = planted_run(args.model, Path(folder))
        model, batch = run.trainer.model.train(), next(iter(run.train_data))
        model.calculate_loss(batch)  # what is computed once
        step, ranking = (Trace(args.source.resolve() / "recbole_ib") for _ in range(2))
        step.run(lambda: model.calculate_loss(batch))
        model.eval()
        ranking.run(lambda: model.full_sort_predict(batch[:1]))
    print(f"{args.model}, one L_1 step: {step}")
    print(f"{args.model}, features to scores: {ranking}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
