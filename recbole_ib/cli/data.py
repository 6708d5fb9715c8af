"""``recbole-ib check`` and ``recbole-ib convert``."""

from __future__ import annotations

import argparse

from recbole_ib.data.convert import convert_mmrec
from recbole_ib.training.validate import check_dataset


def check(args: argparse.Namespace) -> int:
    """Print what a data set holds; 1 where training would refuse it."""
    report = check_dataset(config_file_list=args.config_files, argv=args.settings)
    print(report.text())
    return 1 if report.errors else 0


def convert(args: argparse.Namespace) -> int:
    """Convert a folder of MMRec's layout, and print what was written."""
    converted = convert_mmrec(args.source, args.out, name=args.name, force=args.force)
    sizes = ", ".join(f"{split} {n}" for split, n in converted.split_sizes.items())
    print(f"{converted.folder}: {converted.users} users, {converted.items} items, interactions: {sizes}")
    for name, shape in converted.modalities.items():
        print(
            f"  modality {name}: {shape[0]} x "
            f"{shape[1]}{', with a ready item graph' if name in converted.graphs else ''}"
        )
    print(f"check it with: recbole-ib check --dataset={converted.name} --data_path={args.out}")
    return 0
