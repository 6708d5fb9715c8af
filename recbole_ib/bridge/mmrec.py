"""MMRec's models, from the user's own checkout, as models of RecBole.

``--model=mmrec:NAME --mmrec_path=DIR``.

MMRec (https://github.com/enoche/MMRec) is not a part of this package and is never downloaded by it; only its
interface is used.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from recbole.config import Config
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_ib.bridge.checkout import CheckoutModel, open_checkout
from recbole_ib.bridge.interface import (
    ModelConfig,
    TrainingInteractions,
    choose_modalities,
)
from recbole_ib.bridge.network import (
    DEFAULTS,
    NOT_THE_MODELS,
    cuda_stays,
    epoch_decay,
    keep_untrained,
    plain_attributes,
    write_files,
)
from recbole_ib.errors import ConfigurationError, RecBoleIBError
from recbole_ib.model.base import MultimodalRecommender
from recbole_ib.model.registry import MMREC_PREFIX, register_model

#: ways of training that need a loader of MMRec's own
UNSUPPORTED = {
    "use_full_sampling": "batches of users",
    "use_neighborhood_loss": "batches with sampled neighbors",
    "end2end": "raw images and texts",
}
#: training pairs of the forward pass that computes left-over score tables anew
REFRESH_PAIRS = 32


class MMRecModel(MultimodalRecommender):
    """One model of a checkout behind RecBole's interface; :func:`mmrec_model` makes a subclass for each.

    RecBole's id 0 of users and items is padding and MMRec has none: ids are shifted by one both ways, and the
    padding item scores -inf. ``network`` is the checkout's model; its parameters are the state.

    Args:
        config: RecBole's configuration.
        dataset: the TRAINING part of a :class:`recbole_ib.data.dataset.MultimodalDataset`.

    Raises:
        ConfigurationError: a modality, file or package that the model lacks, or a way of training that the
            bridge does not offer.
    """

    source: ClassVar[CheckoutModel]

    def __init__(self, config: Config, dataset: Dataset):
        # the base's own __init__ asks for modalities and a reg_weight, which not every model of MMRec has
        super(MultimodalRecommender, self).__init__(config, dataset)
        self.encoder = None
        settings = self._model_config(config)
        for key, needs in UNSUPPORTED.items():
            if settings[key]:
                raise ConfigurationError(
                    f"{config['model']}: {key} is set in {self.source.checkout.src / 'configs'} or by you; "
                    f"it trains on {needs}, which the bridge does not offer"
                )
        self.negatives, self.trains = bool(settings["use_neg_sampling"]), bool(settings["req_training"])
        chosen = self._modalities(config, dataset) if settings["is_multimodal_model"] else {}
        self.modalities = list(chosen.values())
        users, items = (dataset.inter_feat[f].cpu().numpy() - 1 for f in (self.USER_ID, self.ITEM_ID))
        # the model reads features and writes caches there while it is built; nothing of it is needed
        # afterwards
        with tempfile.TemporaryDirectory(prefix="recbole_ib-mmrec-") as root:
            settings["data_path"] = f"{root}/"
            interactions = TrainingInteractions(settings, users, items, self.n_users - 1, self.n_items - 1)
            tables = {part: (name, dataset.modalities[name]) for part, name in chosen.items()}
            tokens = {
                what: [str(token) for token in dataset.field2id_token[field][1:]]
                for what, field in (("user", self.USER_ID), ("item", self.ITEM_ID))
            }
            folder = Path(root) / settings["dataset"]
            write_files(folder, self.source, settings, tables, interactions, tokens)
            self.network: Any = self._build(settings, interactions)
        self._release_tables()
        keep_untrained(self.network)
        if not any(p.requires_grad for p in self.parameters()):
            self.placeholder = nn.Parameter(torch.zeros(1))  # an optimizer needs something to hold
        # what a fresh forward pass is computed on, to bring score tables up to date
        pairs = np.stack(
            [users[:REFRESH_PAIRS], items[:REFRESH_PAIRS], (items[:REFRESH_PAIRS] + 1) % (self.n_items - 1)]
        )
        self._few = torch.from_numpy(pairs[: 3 if self.negatives else 2].astype(np.int64))
        self._built = plain_attributes(self.network)
        self._epoch_open = self._prepared = False
        self._stale = True
        self._log(config, chosen, list(getattr(dataset, "modalities", None) or {}))

    # -- what the checkout's class is given ------------------------------------------------------------------

    @classmethod
    def bridged_settings(cls, external: dict) -> dict:
        """Return the checkout's settings of this model, a layer below the user's own ``external`` ones."""
        model = cls.source
        layer = {key: value for key, value in model.settings.items() if key not in NOT_THE_MODELS}
        merged = {**DEFAULTS, **model.overall, **layer, **external}
        schedule = merged.get("learning_rate_scheduler")
        if schedule:
            layer["learning_rate_decay"] = epoch_decay(schedule)
        if not merged["use_neg_sampling"]:
            layer["train_neg_sample_args"] = None
        if not merged["req_training"]:
            layer["epochs"] = 1
        return layer

    @classmethod
    def bridged_keys(cls) -> frozenset[str]:
        """The keys that a user may set for this model beside RecBole's and ours."""
        return cls.source.keys

    def _model_config(self, config: Config) -> ModelConfig:
        ours = {
            k: v for k, v in config.final_config_dict.items() if v is not None or k not in self.source.overall
        }
        settings = ModelConfig({**DEFAULTS, **self.source.overall, **ours})
        settings.update(model=self.source.name, dataset=config.dataset, device=config["device"])
        return settings

    def _modalities(self, config: Config, dataset: Dataset) -> dict[str, str]:
        features = getattr(dataset, "modalities", None) or {}
        if not features:
            raise ConfigurationError(
                f"{config['model']} needs features of vision or text; the data set {config.dataset!r} has no "
                "modality. Name feature files under the key 'modalities' of its yaml"
            )
        return choose_modalities(list(features), config["mmrec_modalities"])

    def _build(self, settings: ModelConfig, interactions: TrainingInteractions) -> nn.Module:
        what = f"{settings['model']} cannot be built with these settings"
        with self._inside():
            try:
                network = self.source.cls(settings, interactions)
            except RecBoleIBError:
                raise
            except FileNotFoundError as error:
                name = Path(str(error.filename)).name
                raise ConfigurationError(
                    f"{what}: it reads {name} from the data set's folder ({self.source.file}), which the "
                    "bridge does not make"
                ) from error
            except Exception as error:
                raise ConfigurationError(self.source.checkout.explain(error, what)) from error
        lacking = [
            name
            for name in ("calculate_loss", "full_sort_predict")
            if not callable(getattr(network, name, None))
        ]
        if not isinstance(network, nn.Module) or lacking:
            raise ConfigurationError(
                f"{settings['model']} of {self.source.file} is no model of MMRec: it needs to be a torch "
                "module with calculate_loss and full_sort_predict"
            )
        return network

    def _log(self, config: Config, chosen: dict[str, str], names: list[str]) -> None:
        given = config.external_config_dict
        first = [
            f"{k}={v[0]!r} of {v}"
            for k, v in self.source.searched.items()
            if k not in given and k not in NOT_THE_MODELS
        ]
        features = ", ".join(f"{part} = {name}" for part, name in chosen.items()) or "none"
        unused = ", ".join(name for name in names if name not in chosen.values())
        self.logger.info(
            f"{config['model']} from {self.source.file}; features: "
            f"{features}{f'; not used: {unused}' if unused else ''}"
        )
        if first:
            self.logger.info(
                f"Its yaml lists values to search; the first of each is taken: {'; '.join(first)}"
            )
        if self.source.left_tables:
            self.logger.info(
                f"It scores with {', '.join(sorted(self.source.left_tables))}, computed in training batches "
                "alone: one forward pass before every evaluation brings them up to date"
            )

    # -- training --------------------------------------------------------------------------------------------

    def pre_epoch(self, epoch: int) -> None:  # noqa: ARG002  (MMRec's hooks do not take it)
        """Close the epoch before, and call MMRec's hook."""
        self._close_epoch()
        self._prepare()
        self._epoch_open = True

    def _prepare(self) -> None:
        with self._call():
            if hasattr(self.network, "pre_epoch_processing"):
                self.network.pre_epoch_processing()
        self._prepared = True

    def _close_epoch(self) -> None:
        """Call MMRec's hook after an epoch, once, before its evaluation."""
        if not self._epoch_open:
            return
        self._epoch_open = False
        if hasattr(self.network, "post_epoch_processing"):
            with self._call():
                info = self.network.post_epoch_processing()
            if info is not None:
                self.logger.info(info)

    def calculate_loss(self, interaction: Interaction) -> Any:
        """Return the model's loss, or its tuple of losses, of a batch.

        The network gets ``[3, B]`` (users, items, negatives) or ``[2, B]``.
        """
        fields = (self.USER_ID, self.ITEM_ID, self.NEG_ITEM_ID)[: 3 if self.negatives else 2]
        batch = torch.stack([interaction[f] for f in fields]) - 1
        if not self.trains:
            return self._nothing()
        with self._call():
            losses = self.network.calculate_loss(batch)
        if isinstance(losses, tuple):
            losses = tuple(self._scalar(value) for value in losses)
            return losses if any(value.requires_grad for value in losses) else (*losses, self._nothing())
        loss = self._scalar(losses)
        return loss if loss.requires_grad else loss + self._nothing()

    def _scalar(self, value: object) -> Tensor:
        value = torch.as_tensor(value, device=self.device)
        if value.numel() != 1:
            raise ConfigurationError(
                f"{self.source.name}: calculate_loss returned a tensor of shape {tuple(value.shape)}, not "
                "one number"
            )
        return value.reshape(())

    def _nothing(self) -> Tensor:
        """Return a zero that has a gradient."""
        return 0.0 * next(p for p in self.parameters() if p.requires_grad).sum()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the network."""
        with self._call():
            return self.network(*args, **kwargs)

    # -- scores ----------------------------------------------------------------------------------------------

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Return scores of all items for the given users, flattened ``[n * n_items]``.

        The padding item scores -inf.
        """
        return self._scores(interaction[self.USER_ID]).flatten()

    def predict(self, interaction: Interaction) -> Tensor:
        """Return scores of the given user-item pairs, ``[n]``."""
        users, position = torch.unique(interaction[self.USER_ID], return_inverse=True)
        return self._scores(users)[position, interaction[self.ITEM_ID]]

    def _scores(self, users: Tensor) -> Tensor:
        """RecBole's user ids ``[n]`` -> ``[n, n_items]``."""
        if self._stale:
            self._refresh()
        with self._call():
            scores = self.network.full_sort_predict([users - 1])
        if scores.numel() != users.numel() * (self.n_items - 1):
            raise ConfigurationError(
                f"{self.source.name}: full_sort_predict returned {tuple(scores.shape)} for {users.numel()} "
                f"users and {self.n_items - 1} items"
            )
        return F.pad(scores.reshape(users.numel(), -1).float(), (1, 0), value=-torch.inf)

    def _refresh(self) -> None:
        """Pass forward once with the parameters as they are, where scores read what a batch left behind."""
        if self.source.left_tables:
            if not self._prepared:
                self._prepare()
            with torch.no_grad(), self._call():
                self.network.calculate_loss(self._few.to(self.device).clone())
        self._stale = False

    def train(self, mode: bool = True) -> Any:
        """Set the mode; the epoch ends where an evaluation begins."""
        if not mode:
            self._close_epoch()
        self._stale = True
        return super().train(mode)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Return parameters and buffers, without the tables that training assigns."""
        self._release_tables()
        return super().state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Load parameters and buffers; scores are computed anew."""
        self._release_tables()
        self._stale = True
        return super().load_state_dict(*args, **kwargs)

    def _release_tables(self) -> None:
        """Take what training assigns out of the parameters, though torch registers it as one.

        A table that starts as a parameter could not be assigned; another name for a parameter would be saved
        only after a batch.
        """
        for name in self.source.assigned_in_training.intersection(self.network._parameters):
            value = self.network._parameters.pop(name)
            setattr(self.network, name, value if value is None else value.detach())

    def other_parameter(self) -> dict:
        """Return the plain values that the model has changed since it was built, for checkpoints."""
        now = plain_attributes(self.network)
        return {
            key: value for key, value in now.items() if key not in self._built or self._built[key] != value
        }

    def load_other_parameter(self, para: Any) -> None:
        """Set what :meth:`other_parameter` returned."""
        for key, value in (para or {}).items():
            setattr(self.network, key, value)

    # -- the checkout's code ---------------------------------------------------------------------------------

    @contextmanager
    def _inside(self) -> Iterator[None]:
        with self.source.checkout.active(), cuda_stays(self.device):
            yield

    @contextmanager
    def _call(self) -> Iterator[None]:
        """Surround a call of the network once it is built."""
        around = self.source.checkout.active() if self.source.imports_late else nullcontext()
        with around, cuda_stays(self.device):
            try:
                yield
            except FileNotFoundError as error:
                raise ConfigurationError(
                    f"{self.source.name} reads {error.filename} after it is built ({self.source.file}); the "
                    "bridge keeps the data set's folder only until then"
                ) from error
            except ImportError as error:
                raise ConfigurationError(
                    self.source.checkout.explain(error, f"{self.source.name} stopped")
                ) from error


_classes: dict[tuple[Path, str], Any] = {}


def mmrec_model(name: str, path: str | Path | None) -> type:
    """Return the class for ``mmrec:NAME`` of a checkout, registered with RecBole.

    Two checkouts take turns under one name.

    Args:
        name: with the prefix ``mmrec:``; capitals do not count.
        path: the checkout, see :func:`recbole_ib.bridge.checkout.open_checkout`.

    Raises:
        ConfigurationError: no such checkout or model, or one that cannot be imported.
    """
    checkout, wanted = open_checkout(path), name[len(MMREC_PREFIX) :]
    source = checkout.model(wanted)
    key = (checkout.src, source.name)
    if key not in _classes or _classes[key].source.cls is not source.cls:
        body = {"source": source, "__module__": __name__, "__doc__": f"{source.name} of {source.file}."}
        _classes[key] = type(MMREC_PREFIX + source.name, (MMRecModel,), body)
    return register_model(_classes[key])


def mmrec_models(path: str | Path) -> list[str]:
    """Return the names that ``--model`` takes for a checkout, ``mmrec:`` included."""
    return [MMREC_PREFIX + name for name in open_checkout(path).models()]
