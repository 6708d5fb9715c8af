"""``recbole-ib models``."""

from __future__ import annotations

import argparse

from recbole_ib.bridge.mmrec import mmrec_models
from recbole_ib.model.registry import CATALOG, recbole_models


def run(args: argparse.Namespace) -> int:
    """Print the catalog and the names of RecBole's own models, or the models of a checkout of MMRec."""
    if args.mmrec_path is not None:
        print("\n".join(mmrec_models(args.mmrec_path)))
        return 0
    rows = [("model", "backbone", "bottlenecks", "paper")]
    rows += [(e.name, e.backbone, e.bottlenecks, e.paper) for e in CATALOG.values()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(f"\nRecBole's own models run too: {', '.join(recbole_models())}")
    return 0
