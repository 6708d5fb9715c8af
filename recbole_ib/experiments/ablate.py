"""The variants of ``recbole-ib ablate``.

A model without each of its bottlenecks, and on each modality alone, as IBMRec's Table 4 and Figure 4.
"""

from __future__ import annotations

from recbole_ib.config.config import Config
from recbole_ib.config.serialize import quoted
from recbole_ib.errors import ConfigurationError
from recbole_ib.experiments.model_spec import ModelSpec
from recbole_ib.experiments.options import Options, make_entry
from recbole_ib.experiments.results import Entry
from recbole_ib.model.bottleneck import BOTTLENECKS, backbone_of, bottleneck_names

#: the headings of the two groups
ALL_MODALITIES, ONE_MODALITY = "All modalities", "One modality alone"


def variants(whole: ModelSpec, options: Options) -> tuple[list[Entry], dict[str, list[str]]]:
    """Return the entries of the report, the whole model first, and their names below its two headings.

    Raises:
        ConfigurationError: a model without bottlenecks, or a data set without modalities.
    """
    first = make_entry(whole, options)
    config = Config(first.model, options.dataset, None, quoted(first.settings))
    bottlenecks = bottleneck_names(config.model_class, config)
    if not bottlenecks:
        raise ConfigurationError(
            f"{whole.text} has no bottleneck to leave out; take one such as IBMRec, MRdIBMGCN or "
            f"{whole.name}+fib (`recbole-ib models`)"
        )
    backbone = backbone_of(config.model_class).__name__
    entries = {first.name: first}

    def add(text: str, model: str, **changes: object) -> str:
        candidate = {**whole.candidates[0], **changes}
        entries[text] = make_entry(
            ModelSpec(text, model, (candidate,), backbone), options, borrowed=whole.name
        )
        return text

    parts = [first.name]
    for left_out in bottlenecks if len(bottlenecks) > 1 else ():
        kept = [name for name in bottlenecks if name != left_out]
        parts.append(add(f"w/o {left_out.upper()}", "+".join([backbone, *kept])))
    for bottleneck in bottlenecks:
        parts += [
            add(f"w/o {term}", whole.name, **settings)
            for term, settings in BOTTLENECKS[bottleneck].terms.items()
            # a term that is off already would be the whole model once more
            if any(config[key] != value for key, value in settings.items())
        ]
    bare = add(f"w/o IB ({backbone})", backbone)
    groups = {ALL_MODALITIES: [*parts, bare]}

    modalities = list(config["use_modalities"] or config["modalities"] or ())
    if not modalities:
        raise ConfigurationError(
            f"the data set {options.dataset!r} names no modalities; `recbole-ib check` tells what it holds"
        )
    # with one modality there is nothing to take apart
    if len(modalities) > 1:
        off: dict[str, object] = {}
        for held in [BOTTLENECKS[name] for name in bottlenecks]:
            for term in held.between_modalities:
                off |= {key: value for key, value in held.terms[term].items() if config[key] != value}
        runs: tuple[tuple[str, str, dict[str, object]], ...] = (
            (first.name, whole.name, off),
            (bare, backbone, {}),
        )
        groups[ONE_MODALITY] = [
            add(f"{text}, {modality} alone", model, use_modalities=[modality], **changes)
            for text, model, changes in runs
            for modality in modalities
        ]
    return list(entries.values()), groups
