"""``recbole-ib compare`` and ``recbole-ib ablate``."""

from __future__ import annotations

import argparse

from recbole_ib.errors import ConfigurationError
from recbole_ib.experiments.ablate import variants
from recbole_ib.experiments.compare import run
from recbole_ib.experiments.model_spec import parse_models
from recbole_ib.experiments.options import joined, make_entry, read_options


def compare(args: argparse.Namespace) -> int:
    """Train what is missing, write the report and return the exit status, 1 where a training failed."""
    options = read_options(args)
    model_specs = parse_models(joined(args.models))
    for model_spec in model_specs:
        if len(model_spec.candidates) > 1:
            raise ConfigurationError(
                f"model {model_spec.text!r} leaves a choice ('|'); a comparison takes chosen settings: "
                "recbole-ib tune finds them, and --tuned reads them"
            )
    entries = [make_entry(model_spec, options) for model_spec in model_specs]
    return run(entries, options, f"{len(entries)} models on {options.dataset}", args.command_line)


def ablate(args: argparse.Namespace) -> int:
    """Train what is missing of a model's variants, write the report and return the exit status.

    It is 1 where a training failed.
    """
    options = read_options(args)
    (whole, *others) = parse_models(args.model)
    if others or len(whole.candidates) > 1:
        raise ConfigurationError(
            f"--model {args.model!r}: one model with chosen settings is taken apart at a time"
        )
    entries, groups = variants(whole, options)
    return run(entries, options, f"{whole.text} taken apart, on {options.dataset}", args.command_line, groups)
