"""What the bridge changes of a network from a checkout, and the settings that it reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recbole_ib.bridge.checkout import CheckoutModel
from recbole_ib.bridge.interface import FEATURE_FILES, ModelConfig, TrainingInteractions, user_neighbors
from recbole_ib.errors import ConfigurationError

USER_GRAPH_KEY = "user_graph_dict_file"

#: settings of a model's yaml in the checkout that belong to the data, the machine or the evaluation:
#: RecBole's hold there
NOT_THE_MODELS = {
    "hyper_parameters", "seed", "gpu_id", "use_gpu", "device", "model", "dataset", "data_path",
    "checkpoint_dir", "metrics", "topk", "valid_metric", "eval_batch_size", "eval_step", "USER_ID_FIELD",
    "ITEM_ID_FIELD", "TIME_FIELD", "NEG_PREFIX", "field_separator", "inter_file_name",
    "inter_splitting_label", "filter_out_cod_start_users", "save_recommended_topk", "recommend_topk",
    *FEATURE_FILES.values(),
}  # fmt: skip
#: what MMRec's own overall.yaml says of every model, for a checkout that lacks the file
DEFAULTS = {"is_multimodal_model": True, "end2end": False, "use_neg_sampling": True, "req_training": True}


def _itself(tensor: Any, *_args: Any, **_kwargs: Any) -> Any:
    return tensor


@contextmanager
def cuda_stays(device: torch.device) -> Iterator[None]:
    """Let ``.cuda()`` in a model's code leave a tensor where it is, on a CPU.

    Several models of MMRec call it whatever the device.
    """
    if torch.device(device).type != "cpu":
        yield
        return
    saved = torch.Tensor.cuda, nn.Module.cuda
    torch.Tensor.cuda = nn.Module.cuda = _itself  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        torch.Tensor.cuda, nn.Module.cuda = saved  # type: ignore[method-assign]


def keep_untrained(network: nn.Module) -> None:
    """Make buffers of tensors that want a gradient and are no parameters.

    They are never trained, in MMRec either, but scores depend on them: as buffers they are saved with the
    parameters and move with the model.
    """
    for module in network.modules():
        for name, value in list(vars(module).items()):
            if not isinstance(value, Tensor) or not value.requires_grad:
                continue
            if value.is_leaf or type(value.grad_fn).__name__ == "ToCopyBackward0":
                delattr(module, name)
                module.register_buffer(name, value.detach().clone())


def plain_attributes(network: nn.Module) -> dict:
    """Return the numbers, switches and texts that the network holds."""
    return {
        k: v for k, v in vars(network).items() if k != "training" and isinstance(v, (bool, int, float, str))
    }


def epoch_decay(schedule: Any) -> float:
    """Return the decay per 50 epochs of MMRec's ``[g, n]``: a rate times g^(epoch / n), ours g^(epoch / 50).

    Raises:
        ConfigurationError: something else than two numbers.
    """
    try:
        rate, epochs = schedule
        return float(rate) ** (50 / float(epochs))
    except (TypeError, ValueError, ZeroDivisionError):
        raise ConfigurationError(
            f"learning_rate_scheduler is {schedule!r}; it is a list [g, epochs], such as [0.96, 50]"
        ) from None


def check_order(key: str, file: str, tokens: Mapping[str, Sequence[str]]) -> None:
    """Refuse a file that a model reads by position where the data set's ids are no positions in it.

    MMRec numbers users and items as its own files do; RecBole by their first appearance in the training data.

    Raises:
        ConfigurationError: a user or an item, by the key's name, has another place.
    """
    for what, names in tokens.items():
        if what not in key:
            continue
        kept = sum(str(name) == str(place) for place, name in enumerate(names))
        if kept < len(names):
            raise ConfigurationError(
                f"{key}: {file} is read by position, and {len(names) - kept} of {len(names)} {what}s of this "
                f"data set have another place than their id says ({kept} keep theirs): their rows would be "
                "those of others. Leave the key out where the bridge makes the file, or run the model in "
                "MMRec itself"
            )


def write_files(
    folder: Path,
    source: CheckoutModel,
    settings: ModelConfig,
    tables: Mapping[str, tuple[str, Tensor]],
    interactions: TrainingInteractions,
    tokens: Mapping[str, Sequence[str]],
) -> None:
    """Write the data set's folder as a model expects it: aligned features, and the user graph.

    Args:
        folder: where to; its names go into the settings.
        source: the model.
        settings: of the model.
        tables: ``vision`` or ``text`` -> the modality's name, and ``[n_items, d]``, the padding row included.
        interactions: of the training.
        tokens: ``user`` and ``item`` -> the tokens in the order of the ids, without the padding.

    Raises:
        ConfigurationError: a file that the model reads and the bridge does not make.
    """
    folder.mkdir(parents=True)
    for part, key in FEATURE_FILES.items():
        settings[key] = f"{part}_feat.npy"
        if part in tables:
            name, features = tables[part]
            table = features[1:].float().numpy()
            empty = int((~table.any(axis=1)).sum())
            if empty:
                getLogger().warning(
                    f"{empty} items have an all-zero row in {name}: a model that scales rows to length 1 "
                    "gets NaN. The modality's key missing: mean gives them the mean row"
                )
            np.save(folder / settings[key], table)
    for key in sorted(k for k in source.reads if k.endswith("_file") and k not in FEATURE_FILES.values()):
        given = settings[key]
        if given and Path(given).expanduser().is_file():
            check_order(key, given, tokens)
            settings[key] = str(Path(given).expanduser().resolve())
        elif given and given != {**source.overall, **source.settings}.get(key):
            raise ConfigurationError(f"{key}: there is no file {given}")
        elif key == USER_GRAPH_KEY:
            settings[key] = "user_graph_dict.npy"
            np.save(
                folder / settings[key],
                np.array(user_neighbors(interactions.inter_matrix("csr"))),
                allow_pickle=True,
            )
        else:
            raise ConfigurationError(
                f"{settings['model']} reads the file that {key} names{f', {given},' if given else ''} "
                f"({source.file}), which the bridge does not make. Make it with the checkout's own tools and "
                f"give --{key}=PATH; it is read by position"
            )
