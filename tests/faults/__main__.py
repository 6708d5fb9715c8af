"""``make faults``: run the whole table, and print what happened by group."""

from __future__ import annotations

import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.faults import folders, hostile, interactions, settings
from tests.faults.case import Case, run

KINDS = ("clear", "other words", "traceback", "silent", "code run")


def outcome(case: Case) -> tuple[str, str]:
    """Run a case in a new folder; return its kind and what it said."""
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            found = run(case, Path(folder))
            ran = Path(hostile.MARK).exists()
        finally:
            os.chdir(home)
    said = found.error + found.out
    if ran:
        return "code run", said
    if not case.words:  # to be passed by
        return ("clear" if found.status == 0 else "traceback"), said
    if found.kind == "clear" and not all(word in said for word in case.words):
        return "other words", said
    return found.kind, said


def main() -> int:
    """Print the table; 1 where an input is not refused in clear words."""
    counts: dict[str, Counter] = {}
    for case in [*interactions.cases(), *settings.cases(), *folders.cases(), *hostile.refused(), *hostile.passed_by()]:
        kind, said = outcome(case)
        counts.setdefault(case.group, Counter())[kind] += 1
        if kind != "clear":
            print(f"{case.id}: {kind}\n{said[-500:]}", file=sys.stderr)
    width = max(map(len, counts))
    print(f"{'group':<{width}}  inputs  " + "  ".join(KINDS))
    for group, found in [*counts.items(), ("all", sum(counts.values(), Counter()))]:
        cells = "  ".join(f"{found[kind]:>{len(kind)}}" for kind in KINDS)
        print(f"{group:<{width}}  {found.total():>6}  {cells}")
    return int(any(found[kind] for found in counts.values() for kind in KINDS[1:]))


if __name__ == "__main__":
    sys.exit(main())
