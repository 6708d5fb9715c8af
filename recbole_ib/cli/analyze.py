"""``recbole-ib decompose`` and ``recbole-ib plot-information``."""

from __future__ import annotations

import argparse
from pathlib import Path

from recbole_ib.analysis import information_plane
from recbole_ib.analysis.decompose import decompose as decompose_checkpoint
from recbole_ib.errors import ConfigurationError


def decompose(args: argparse.Namespace) -> int:
    """Print what a trained model takes from each modality."""
    if args.out and not Path(args.out).parent.is_dir():
        # known before minutes of evaluation
        raise ConfigurationError(f"--out: there is no folder {Path(args.out).parent}; make it first")
    result = decompose_checkpoint(
        args.checkpoint, repeats=args.repeats, seed=args.seed, part=args.part, metric=args.metric
    )
    print(result.text())
    if args.out:
        result.to_csv(args.out)
        print(f"\nwritten to {args.out}")
    return 0


def plot_information(args: argparse.Namespace) -> int:
    """Draw the information plane and the curves of runs, and print the files' names."""
    written = information_plane.plot_information(args.files, args.out)
    if len(written) == 1:
        print("no information plane: no run here has both latents of modalities and id embeddings")
    for path in written:
        print(path)
    return 0
