"""The models of a comparison, as text: ``NAME[+bottleneck[+bottleneck]][:key=value[;key=value]]``."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

from recbole_ib.config.argv import parse_value
from recbole_ib.errors import ConfigurationError
from recbole_ib.model.registry import CATALOG, MMREC_PREFIX


@dataclass(frozen=True)
class ModelSpec:
    """One line of a comparison.

    text: what the user wrote, and the line's name; name: what ``run_recbole_ib`` takes as model; candidates:
    the settings to choose among on validation, at least one; backbone: the name of the model that it is
    compared with, or ``None``.
    """

    text: str
    name: str
    candidates: tuple[dict, ...]
    backbone: str | None


def parse_models(text: str) -> list[ModelSpec]:
    """Return the models of a text such as ``VLATTICE,VLATTICE+fib:fib_weight=1|3;sigma2=.15``.

    Commas separate models, semicolons settings, and ``|`` values to choose among.

    Raises:
        ConfigurationError: no model, one given twice, or settings of another form.
    """
    words = [word.strip() for word in split_outside(text, ",")]
    if not any(words):
        raise ConfigurationError(
            "no model is named: give --models=NAME,NAME, such as --models=VLATTICE,IBMRec,VBPR"
        )
    model_specs: list[ModelSpec] = []
    for word in words:
        if not word:
            raise ConfigurationError(f"--models={text}: an empty name between two commas")
        model_spec = _parse_model(word)
        if any(other.text == model_spec.text for other in model_specs):
            raise ConfigurationError(f"--models names {word!r} twice")
        model_specs.append(model_spec)
    return model_specs


def split_outside(text: str, separator: str) -> list[str]:
    """Return the parts of a text between separators that stand in no bracket."""
    parts, depth = [""], 0
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        if char == separator and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return parts


def candidate_text(candidate: dict) -> str:
    """Return a candidate's settings as one word: ``kl_weight=0;sigma2=0.15``, or ``-`` without any."""
    return ";".join(f"{key}={value}" for key, value in candidate.items()) or "-"


def _parse_model(word: str) -> ModelSpec:
    """Return the model of a word."""
    prefix = MMREC_PREFIX if word.lower().startswith(MMREC_PREFIX) else ""
    name, _, settings = word[len(prefix) :].partition(":")
    name = word[: len(prefix)] + name.strip()
    values: dict[str, list] = {}
    for part in split_outside(settings, ";") if settings else ():
        match = re.fullmatch(r"\s*([A-Za-z_][\w.-]*)\s*=(.*)", part, flags=re.DOTALL)
        if match is None or match[1] in values:
            what = "is given twice" if match else "is no key=value"
            raise ConfigurationError(
                f"model {word!r}: {part!r} {what}; write NAME:key=value;key=value, alternatives as key=a|b"
            )
        if match[1] in ("seed", "model", "dataset", "data_path"):
            raise ConfigurationError(
                f"model {word!r}: {match[1]} belongs to the whole comparison, not to one model"
            )
        if match[1] == "bottleneck":
            raise ConfigurationError(
                f"model {word!r}: bottlenecks stand in the name, as in {name}+fib, so that the backbone is "
                "known"
            )
        values[match[1]] = [parse_value(alternative.strip()) for alternative in split_outside(match[2], "|")]
    candidates = tuple(
        dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())
    )
    return ModelSpec(word, name, candidates, _backbone(name))


def _backbone(name: str) -> str | None:
    if "+" in name:
        return name.partition("+")[0]
    entry = CATALOG.get(name)
    return entry.backbone if entry is not None and entry.backbone in CATALOG else None
