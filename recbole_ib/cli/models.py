"""``recbole-ib models``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from recbole_ib.bridge.mmrec import mmrec_models
from recbole_ib.config.presets import preset_title, presets
from recbole_ib.model.registry import CATALOG, recbole_models


def run(args: argparse.Namespace) -> int:
    """Print the catalog, RecBole's own models and the presets, or the models of a checkout of MMRec."""
    if args.mmrec_path is not None:
        print("\n".join(mmrec_models(args.mmrec_path)))
        return 0
    rows = [("model", "backbone", "bottlenecks", "paper")]
    rows += [(e.name, e.backbone, e.bottlenecks, e.paper) for e in CATALOG.values()]
    print(_columns(rows))
    print(f"\nRecBole's own models run too: {', '.join(recbole_models())}")
    print("\nPresets, --config_files=NAME:")
    print(_columns([(name, preset_title(path)) for name, path in presets().items()]))
    return 0


def _columns(rows: Sequence[Sequence[str]]) -> str:
    """Return the rows as lines, their cells in columns."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
