"""Training by several processes that ``torchrun`` starts: together they make one process's steps.

Each takes a slice of every batch. All draw the same batches from the same seeds; losses and gradients are
summed over the slices, so every process holds the same weights at every step. Nothing here is active in a
process that torchrun did not start, or started alone.
"""

from __future__ import annotations

import atexit
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from recbole.config import Config
from recbole.data.interaction import Interaction
from recbole.evaluator.collector import DataStruct
from recbole.trainer import trainer as recbole_trainer
from recbole.utils import get_model
from torch import Tensor, nn

from recbole_ib.distributed.launch import launched
from recbole_ib.distributed.share import Share, WholeBatch
from recbole_ib.errors import ConfigurationError
from recbole_ib.model.registry import CATALOG, bottlenecks_of, is_multimodal
from recbole_ib.patches.collector import RankingCollector

# -- the processes -------------------------------------------------------------------------------------------


class SingleProcess:
    """Run of one process: every method of :class:`ProcessGroup` without a partner."""

    size, first = 1, True

    def share(self, interaction: Interaction, device: torch.device) -> WholeBatch:
        """Return the whole batch, on the device."""
        return WholeBatch(interaction.to(device))

    def batch_terms(self, terms: list[Tensor], _share: Share | WholeBatch) -> list[Tensor]:
        """Return the loss terms, detached."""
        return [value.detach() for value in terms]

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Leave the gradients as they are."""

    def from_first(self, make: Callable) -> Any:
        """Return ``make()``."""
        return make()

    def begin(self, model: nn.Module, data_digest: str) -> None:
        """Do nothing: the weights are those of the run."""


class ProcessGroup:
    """Processes of a run: every one must call these methods in the same order."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.first = self.rank == 0

    def share(self, interaction: Interaction, device: torch.device) -> Share:
        """Return this process's slice of a batch, on the device.

        Raises:
            RuntimeError: the processes drew different batches.
        """
        # exact in float64: a sum of ids
        ids = torch.stack(
            [v.double().sum() for v in interaction.interaction.values() if not v.is_floating_point()]
        ).sum()
        own = torch.tensor([float(len(interaction)), float(ids)], dtype=torch.float64, device=device)
        if not torch.equal(self.sum(own), own * self.size):
            raise RuntimeError(
                f"process {self.rank} of {self.size} drew another batch than the rest: their random states, "
                "data or versions of numpy and torch differ. Start all processes with the same environment, "
                "data and settings"
            )
        share = Share(interaction, self.rank, self.size, self.sum)
        share.interaction = share.interaction.to(device)
        return share

    def sum(self, own: Tensor) -> Tensor:
        """Return the sum of a tensor over the processes, without a gradient."""
        total = own.detach().clone()
        dist.all_reduce(total)
        return total

    def batch_terms(self, terms: list[Tensor], share: Share | WholeBatch) -> list[Tensor]:
        """Return the loss terms of the whole batch, from those of the slices."""
        own = torch.stack([value.detach().double() for value in terms])
        # a row that stands in for an empty slice counts for nothing, whatever its loss is
        own = own * share.weight if share.weight else torch.zeros_like(own)
        return list(self.sum(own).to(terms[0].dtype))

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Sum every gradient over the processes; one that no process has stays ``None``."""
        parameters = list(parameters)
        device = parameters[0].device
        present = torch.tensor([p.grad is not None for p in parameters], dtype=torch.int32, device=device)
        dist.all_reduce(present, op=dist.ReduceOp.MAX)
        works = []
        for parameter, anywhere in zip(parameters, present.tolist(), strict=True):
            if anywhere:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                # a gradient keeps its parameter's layout, which the fused optimizers rely on; all_reduce
                # takes row-major ones alone
                whole = parameter.grad.contiguous()
                works.append((parameter.grad, whole, dist.all_reduce(whole, async_op=True)))
        for grad, whole, work in works:
            work.wait()
            if whole is not grad:
                grad.copy_(whole)

    def from_first(self, make: Callable) -> Any:
        """Return in every process what ``make()`` returns in the first one, or raise what it raises."""
        answer: list = [None, None]
        if self.first:
            try:
                answer = [make(), None]
            except Exception as error:
                answer = [None, error]
        dist.broadcast_object_list(answer, src=0)
        if answer[1] is not None:
            raise answer[1]
        return answer[0]

    def gather(self, own: Any) -> list:
        """Return what every process gave, in the order of their ranks."""
        gathered: list = [None] * self.size
        dist.all_gather_object(gathered, own)
        return gathered

    def begin(self, model: torch.nn.Module, data_digest: str) -> None:
        """Take over the first process's weights and CUDA random state, before the first epoch.

        Raises:
            ConfigurationError: the processes see different data.
        """
        others = [i for i, digest in enumerate(self.gather(data_digest)) if digest != data_digest]
        if others:
            raise ConfigurationError(
                f"process {self.rank} sees other interactions or features than process {others[0]}: copy the "
                "same data set to every node, or let --data_path name a shared folder"
            )
        with torch.no_grad():
            for tensor in model.state_dict().values():
                whole = tensor.detach().contiguous()
                dist.broadcast(whole, src=0)
                tensor.copy_(whole)
        if torch.cuda.is_available() and next(model.parameters()).is_cuda:
            torch.cuda.set_rng_state(self.from_first(torch.cuda.get_rng_state))


class SharedCollector(RankingCollector):
    """Collector where the batches of an evaluation go round the processes.

    All hold what one process would have collected.
    """

    data_struct: DataStruct

    def __init__(self, config: Config, processes: ProcessGroup):
        super().__init__(config)
        self.processes, self.batch = processes, 0
        self.pieces: dict[int, dict[str, Tensor]] = {}

    def mine(self) -> bool:
        """Return whether this process scores the next batch."""
        return self.batch % self.processes.size == self.processes.rank

    def eval_batch_collect(
        self, scores_tensor: Tensor, interaction: Interaction, positive_u: Tensor, positive_i: Tensor
    ) -> None:
        """Collect what the metrics need of a batch, where it is this process's."""
        if self.mine():
            whole: DataStruct = self.data_struct
            self.data_struct = DataStruct()
            super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
            ranked = {name: batches.pop() for name, batches in self._ranked.items()}
            self.pieces[self.batch], self.data_struct = {**self.data_struct._data_dict, **ranked}, whole
        self.batch += 1

    def get_data_struct(self) -> DataStruct:
        """Return what all processes collected, in the order of the batches, and begin anew."""
        pieces = {
            number: piece for pieces in self.processes.gather(self.pieces) for number, piece in pieces.items()
        }
        for name in pieces.get(0, ()):
            # in the order of the batches, so that means over users are those of one process to the last digit
            self.data_struct.set(name, torch.cat([pieces[number][name] for number in sorted(pieces)]))
        self.batch, self.pieces = 0, {}
        return super().get_data_struct()


#: the processes of the run that is under way, last of all those before it
_groups: list[SingleProcess | ProcessGroup] = [SingleProcess()]


def current() -> SingleProcess | ProcessGroup:
    """Return the processes of the run that is under way."""
    return _groups[-1]


@contextmanager
def process_group(config: Config) -> Iterator[SingleProcess | ProcessGroup]:
    """Give the processes of a run; all but the first write no log, no tensorboard and no progress bar.

    Raises:
        ConfigurationError: several processes cannot train this model, see :func:`check`.
    """
    if not launched():
        yield current()
        return
    check(config)
    _join()
    group = ProcessGroup()
    _groups.append(group)
    get_tensorboard = recbole_trainer.get_tensorboard
    if not group.first:
        config.final_config_dict.update(show_progress=False, log_wandb=False)
        logging.getLogger().setLevel(logging.ERROR)
        recbole_trainer.get_tensorboard = lambda _logger: _NoTensorboard()
    try:
        yield group
    finally:
        _groups.pop()
        recbole_trainer.get_tensorboard = get_tensorboard


def _join() -> None:
    """Meet the other processes: once, since torchrun's store does not let a process leave and join again."""
    if dist.is_initialized():
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    atexit.register(dist.destroy_process_group)


class _NoTensorboard:
    """Tensorboard of a process that is not the first: it writes nothing."""

    def add_scalar(self, *args: Any) -> None:
        pass

    def add_hparams(self, *args: Any) -> None:
        pass


# -- what is refused -----------------------------------------------------------------------------------------


def can_share(model_class: type) -> bool:
    """Return whether the class itself declares ``row_mean_losses``.

    A subclass may have another loss and does not inherit it.
    """
    return bool(vars(model_class).get("row_mean_losses", False))


def check_model(name: str, model_class: type) -> None:
    """Refuse a model whose steps slices of a batch do not make.

    Raises:
        ConfigurationError: the model is one.
    """
    if can_share(model_class) and not bottlenecks_of(name, model_class):
        return

    able = ", ".join(entry for entry in CATALOG if can_share(get_model(entry)))
    reason = (
        "its loss is not known to be a mean over a batch's rows (a contrast within the batch, terms of its "
        "distinct items or draws for each row are not), so slices of the batch would not make the steps of "
        "one process"
        if is_multimodal(model_class)
        else "it is not a model of recbole_ib, and RecBole's own trainer trains it"
    )
    raise ConfigurationError(
        f"{name} cannot be trained by several processes: {reason}. Models that can: {able}. Train {name} in "
        "one process, without torchrun; runs with other seeds or settings can go side by side"
    )


def check(config: Config) -> None:
    """Refuse a run that several processes would not train as one, or whose files they would write together.

    Raises:
        ConfigurationError: the run is one.
    """
    check_model(config["model"], config.model_class)
    for key in ("save_dataset", "save_dataloaders"):
        if config[key]:
            raise ConfigurationError(
                f"{key}: several processes would write the same file; save it by a run without torchrun"
            )
    if not Path(config["data_path"]).is_dir():
        raise ConfigurationError(
            f"there is no folder {config['data_path']}, and several processes would download it at once; "
            "download the data set by a run without torchrun first (--epochs=1)"
        )
