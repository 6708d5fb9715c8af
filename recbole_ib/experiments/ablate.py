"""``recbole-ib ablate``: a model without each of its bottlenecks, and on each modality alone, as IBMRec's Table 4 and Figure 4."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from recbole_ib.config.config import Config
from recbole_ib.config.serialize import quoted
from recbole_ib.errors import ConfigurationError
from recbole_ib.experiments.compare import run
from recbole_ib.experiments.model_spec import Contestant, parse_contestants
from recbole_ib.experiments.options import Line, Options, line_of, parser_of, read_options
from recbole_ib.model.base import backbone_of

BOTTLENECKS, MODALITIES = "All modalities", "One modality alone"
#: what a bottleneck consists of: the weights whose 0 leaves a term out, and the term's name
TERMS = {"mrdib": {"kl_weight": "KL", "redundancy_weight": "redundancy", "unique_weight": "unique"}}


def command(argv: Sequence[str]) -> int:
    """Train the variants over seeds where they are missing, and write the report; 0, or 1 where a training failed."""
    parser = parser_of("ablate", "a model without each bottleneck and on each modality alone")
    parser.add_argument(
        "--model", required=True, metavar="NAME", help="a model with bottlenecks, such as IBMRec or FREEDOM+fib+gib"
    )
    given, options = read_options(parser, argv)
    (whole, *others) = parse_contestants(given.model)
    if others or len(whole.candidates) > 1:
        raise ConfigurationError(f"--model {given.model!r}: one model with chosen settings is taken apart at a time")
    lines, groups = variants(whole, options)
    title = f"{whole.text} taken apart, on {options.dataset}"
    return run(lines, options, title, "recbole-ib ablate " + shlex.join(argv), groups)


def variants(whole: Contestant, options: Options) -> tuple[list[Line], dict[str, list[str]]]:
    """The lines of the report, the whole model first, and their names below its two headings.

    Raises:
        ConfigurationError: a model without bottlenecks, or a data set without modalities.
    """
    first = line_of(whole, options)
    config = Config(first.name, options.dataset, None, quoted(first.settings))
    bottlenecks = config.model_class.bottlenecks if hasattr(config.model_class, "bottlenecks") else ()
    if not bottlenecks:
        raise ConfigurationError(
            f"{whole.text} has no bottleneck to leave out; take one such as IBMRec, MRdIBMGCN or {whole.name}+fib (`recbole-ib models`)"
        )
    backbone = backbone_of(config.model_class).__name__
    own = whole.candidates[0]

    def variant(text: str, name: str, **changes) -> Line:
        return line_of(Contestant(text, name, ({**own, **changes},), backbone), options, borrowed=whole.name)

    lines = {first.text: first}
    parts = [first.text]
    for left_out in bottlenecks if len(bottlenecks) > 1 else ():
        rest = [name for name in bottlenecks if name != left_out]
        text = f"w/o {left_out.upper()}"
        lines[text] = variant(text, "+".join([backbone, *rest]))
        parts.append(text)
    for bottleneck in bottlenecks:
        for key, term in TERMS.get(bottleneck, {}).items():
            text = f"w/o {term}"
            lines[text] = variant(text, whole.name, **{key: 0.0})
            parts.append(text)
    bare = f"w/o IB ({backbone})"
    lines[bare] = variant(bare, backbone)
    parts.append(bare)
    groups = {BOTTLENECKS: parts}

    modalities = list(config["use_modalities"] or config["modalities"] or ())
    if not modalities:
        raise ConfigurationError(f"the data set {options.dataset!r} names no modalities; `recbole-ib check` tells what it holds")
    # with one modality there is nothing to take apart
    alone = modalities if len(modalities) > 1 else []
    shown = []
    for text, name in ((first.text, whole.name), (bare, backbone)):
        for modality in alone:
            label = f"{text}, {modality} alone"
            lines[label] = variant(label, name, use_modalities=[modality])
            shown.append(label)
    if alone:
        groups[MODALITIES] = shown
    return list(lines.values()), groups
