"""Information diagnostics: what a model's latents hold, measured after every evaluated epoch.

A fixed sample is measured, and nothing of the run changes.
"""

from __future__ import annotations

import csv
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import torch
from recbole.config import Config
from recbole.data.dataloader import AbstractDataLoader
from torch import Tensor, nn

from recbole_ib.bottleneck.alignment import alignment, mean_row, median_rbf_kernel, sample_ids, variance_share
from recbole_ib.bottleneck.kernels import center
from recbole_ib.bottleneck.mutual_information import gaussian_information
from recbole_ib.errors import ConfigurationError, first_few
from recbole_ib.model.base import MultimodalRecommender
from recbole_ib.model.graphs import any_feature
from recbole_ib.model.registry import is_multimodal
from recbole_ib.training.gradient_shares import GradientShares
from recbole_ib.utils.validate import integer

COLUMNS = ("epoch", "name", "value")

#: the epoch under which the initial point stands
BEFORE_TRAINING = -1

#: of the sample alone: it is the same for every run on a data set, whatever the run's own seed
SAMPLE_SEED = 20050307

#: the rounding that a sum of parts may differ from the latents by
SAME_LATENTS = 1e-4

#: parts by modality -> latents by name
Fusion = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]


class Settings(NamedTuple):
    """Numbers of items and users that are measured."""

    items: int
    users: int


class Record(NamedTuple):
    """Line of the file."""

    epoch: int
    name: str
    value: float


def diagnostics_settings(config: Config) -> Settings | None:
    """Return the settings of a run, or ``None`` where ``diagnostics`` is off.

    Raises:
        ConfigurationError: ``diagnostics`` is neither True nor False, or a number is none or too small.
    """
    on = config["diagnostics"]
    if on is not None and not isinstance(on, bool):
        raise ConfigurationError(f"diagnostics is {on!r}; allowed: True, False")
    return (
        Settings(integer(config, "diagnostics_items", least=2), integer(config, "diagnostics_users", least=1))
        if on
        else None
    )


def why_unavailable(config: Config) -> str | None:
    """Return why ``diagnostics: True`` measures nothing, or nothing but the initial point, in this run.

    ``None`` where it works or is off.
    """
    if not config["diagnostics"]:
        return None
    if not is_multimodal(config.model_class):
        return (
            f"diagnostics: True does nothing for {config['model']}: RecBole's own trainer trains it, and it "
            "has no latents of modalities. The models of `recbole-ib models` are measured; set diagnostics: "
            "False, or choose one of those"
        )
    if config["eval_step"] <= 0:
        return (
            "diagnostics: True measures the initial point alone: it goes on after evaluated epochs, and "
            f"eval_step is {config['eval_step']}. Set eval_step: 1"
        )
    return None


def diagnostics_path(checkpoint: str | Path) -> Path:
    """Return the file of the run whose best epoch lies in ``checkpoint``."""
    checkpoint = Path(checkpoint)
    return checkpoint.with_name(f"{checkpoint.stem}-diagnostics.csv")


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Set evaluation mode without gradients, and everything as before afterwards.

    That is every module's mode, and the random state. The modes are set one by one: ``eval()`` drops what an
    evaluation has kept, and ends the epoch of a bridged model.
    """
    modes = [(module, module.training) for module in model.modules()]
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())), torch.no_grad():
        try:
            # an estimate by permutation (MRdIB's redundancy) draws: the same numbers every time, and none of
            # the run's
            torch.manual_seed(SAMPLE_SEED)
            for module, _ in modes:
                module.training = False
            yield
        finally:
            for module, mode in modes:
                module.training = mode


# -- the file ------------------------------------------------------------------------------------------------


def read_diagnostics(path: str | Path) -> list[Record]:
    """The lines of a diagnostics file; a last line that a run was cut off in is left out.

    Raises:
        ConfigurationError: no such file, or not one of these.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigurationError(
            f"there is no file {path}. A run with --diagnostics=True writes one beside its checkpoint"
        )
    try:
        text = path.read_text(encoding="utf-8")
        rows = list(csv.reader(text.splitlines()))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigurationError(f"{path} is no csv file: {error}") from None
    if not rows or tuple(rows[0]) != COLUMNS:
        found = first_few(rows[0]) if rows else "nothing"
        raise ConfigurationError(
            f"{path} is no file of a run's diagnostics: it starts with {found}; needed are the columns "
            f"{', '.join(COLUMNS)}"
        )
    records = []
    for number, row in enumerate(rows[1:], start=2):
        if number == len(rows) and not text.endswith("\n"):
            break
        try:
            epoch, name, value = row
            records.append(Record(int(epoch), name, float(value)))
        except ValueError:
            raise ConfigurationError(
                f"{path}, line {number}: {','.join(row)!r} is no {', '.join(COLUMNS)}; remove the line or "
                "the file"
            ) from None
    return records


class DiagnosticsFile:
    """A csv file ``epoch,name,value`` that a run appends to.

    Args:
        path: of the file.
        first_epoch: the first epoch that this run measures; lines of it and of later ones, which a run left
            that got further than the checkpoint this one continues, are dropped.

    Raises:
        ConfigurationError: a file is there that this run is to continue and that is none of these.
    """

    def __init__(self, path: str | Path, first_epoch: int = BEFORE_TRAINING):
        self.path = Path(path)
        kept = []
        if first_epoch > BEFORE_TRAINING and self.path.is_file():
            kept = [record for record in read_diagnostics(self.path) if record.epoch < first_epoch]
        scratch = self.path.with_name(f".{self.path.name}.{secrets.token_hex(3)}.tmp")
        try:
            self._write(scratch, [COLUMNS, *kept])
            Path(scratch).replace(self.path)
        finally:
            scratch.unlink(missing_ok=True)

    def append(self, epoch: int, values: Mapping[str, float]) -> None:
        """Add the values of an epoch."""
        self._write(self.path, [Record(epoch, name, float(value)) for name, value in values.items()])

    @staticmethod
    def _write(path: Path, rows: Any) -> None:
        with Path(path).open("a", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)


# -- the model -----------------------------------------------------------------------------------------------


class Diagnostics:
    """Measures a model on a fixed random sample of items and users, the same for every run on these data.

    Args:
        model: one of ours.
        train_data: its training batches.
        sizes: how many items with a feature, and users with an interaction, are drawn.
    """

    def __init__(self, model: MultimodalRecommender, train_data: AbstractDataLoader, sizes: Settings):
        self.model, dataset = model, train_data._dataset
        self.gradients = GradientShares(model, train_data, SAMPLE_SEED)
        generator = torch.Generator().manual_seed(SAMPLE_SEED)
        # row 0 is padding
        item, user = any_feature(dataset).cpu().clone(), torch.zeros(model.n_users, dtype=torch.bool)
        user[dataset.inter_feat[dataset.uid_field].cpu()] = True
        item[0] = user[0] = False
        device = next(model.parameters()).device
        self.items = sample_ids(item, sizes.items, generator).to(device)
        self.users = sample_ids(user, sizes.users, generator).to(device)
        self._any = item.to(device)
        encoder = model.feature_encoder
        self._masks = {**dataset.has_feature, **({} if encoder is None else encoder.masks(dataset))}
        self._masks = {name: mask.to(device) & self._any for name, mask in self._masks.items()}
        self._kernels: dict[str, tuple[Tensor, Tensor]] = {}

    def measure(self, epoch: int = 0) -> dict[str, float]:
        """Return every measure by its name, see docs/diagnostics.md; nothing of the model changes.

        Args:
            epoch: the next one, whose first batch the gradients are of.
        """
        gradients = self.gradients.measure(epoch)
        with evaluation_mode(self.model):
            latents = self.model.training_latents()
            parts, fuse = self.parts(latents) if latents else ({}, dict)
            measures = {**self.dependence(latents), **self.information(parts), **self.shares(parts, fuse)}
            bottlenecks: Iterable[Any] = self.model.ib.values()
            for bottleneck in bottlenecks:
                measures.update(bottleneck.diagnostics(self.model, self.items))
            return {**{name: float(value) for name, value in measures.items()}, **gradients}

    def dependence(self, latents: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return HSIC, plain and normalized, of every latent with its features and with the id embeddings.

        Args:
            latents: name -> ``[n_items, d]``.
        """
        found, ids, encoder = {}, item_ids(self.model), self.model.feature_encoder
        features = {} if encoder is None else encoder.features(self.items)
        id_kernels: dict[tuple[int, ...], Tensor] = {}
        for name, table in latents.items():
            known = self._mask(name)[self.items]
            rows = self.items[known]
            if rows.numel() < 2:
                continue
            z = center(median_rbf_kernel(table[rows]))
            others = {}
            if name in features:
                others["features"] = self._constant(name, features[name][known])
            if ids is not None:
                # one kernel for all latents of the same items
                which = tuple(rows.tolist())
                if which not in id_kernels:
                    id_kernels[which] = center(median_rbf_kernel(ids[rows]))
                others["ids"] = id_kernels[which]
            for what, other in others.items():
                value = alignment(z, other)
                found[f"hsic_{what}/{name}"] = value.hsic
                found[f"nhsic_{what}/{name}"] = value.normalized
                found[f"nhsic_{what}_independent/{name}"] = value.independent
        return found

    def information(self, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return I(z_a; z_b) in nats for every pair of modalities, by :func:`gaussian_information`.

        Args:
            parts: modality -> ``[n_items, d]``.
        """
        found = {}
        for a, b in combinations(parts, 2):
            both = self.items[(self._mask(a) & self._mask(b))[self.items]]
            if both.numel() >= 2:
                found[f"information/{a}|{b}"] = gaussian_information(parts[a][both], parts[b][both])
        return found

    def shares(self, parts: Mapping[str, Tensor], fuse: Fusion) -> dict[str, Tensor]:
        """Return every modality's contribution to the scores, :func:`variance_share`.

        Its mean stands in the place of every row.

        Args:
            parts: modality -> ``[n_items, d]``.
            fuse: makes the model's latents of them.
        """
        if not (parts and self.model.latents_in_score and self.items.numel() > 1 and self.users.numel()):
            return {}
        scores, found = self._scores(fuse(parts)), {}
        for name, table in parts.items():
            mask = self._mask(name)
            if bool(mask.any()):
                without = fuse({**parts, name: mean_row(table, mask)})
                found[f"share/{name}"] = variance_share(scores, self._scores(without))
        return found

    def parts(self, latents: Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], Fusion]:
        """The modalities' parts of the latents, and what makes the latents of them again.

        Where they do not (a wrapper has put a function that is not linear, or a mask, into a backbone that
        mixes its modalities in one projection, as VBPR does), the latents are their own parts.
        """
        encoder = self.model.feature_encoder
        if encoder is None:
            return latents, dict
        parts, fuse = encoder.parts(), encoder.fuse
        fused = fuse(parts)
        if fused.keys() == latents.keys() and all(
            (fused[n] - z).norm() <= SAME_LATENTS * z.norm() for n, z in latents.items()
        ):
            return parts, fuse
        return latents, dict

    def _scores(self, latents: Mapping[str, Tensor]) -> Tensor:
        user, item = self.model(latents)
        return user[self.users].double() @ item[self.items].double().T

    def _mask(self, name: str) -> Tensor:
        return self._masks.get(name, self._any)

    def _constant(self, name: str, rows: Tensor) -> Tensor:
        """Return the centered kernel of feature rows, computed again only where they have changed."""
        known = self._kernels.get(name)
        if known is None or not torch.equal(known[0], rows):
            self._kernels[name] = known = (rows.clone(), center(median_rbf_kernel(rows)))
        return known[1]


def item_ids(model: nn.Module) -> Tensor | None:
    """Return the item id embeddings, ``[n_items, d]``, of a model or of the backbone it holds.

    ``None`` for a model without.
    """
    for owner in (model, getattr(model, "backbone", None)):
        table = getattr(owner, "item_embedding", None)
        if isinstance(table, nn.Embedding):
            return table.weight.detach()
    return None
