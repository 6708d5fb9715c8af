"""What every multimodal recommender of this package shares."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_ib.errors import ConfigurationError
from recbole_ib.graph import EdgeGraph
from recbole_ib.model.losses import bpr
from recbole_ib.model.types import BatchPass, Encoded, Joined, NamedLosses, Phase
from recbole_ib.utils.validate import count


class MultimodalRecommender(GeneralRecommender):
    """The base of all models here: RecBole's ``GeneralRecommender`` on a data set with modalities.

    A backbone holds its ``projections`` (:class:`recbole_ib.model.layers.encoder.LinearEncoder`), implements :meth:`encode` and, where
    it has an item graph, :meth:`item_graph` and :meth:`attach`. Bottlenecks (:mod:`recbole_ib.model.bottleneck`) work on what these
    return; no backbone knows of one.

    Args:
        config: RecBole's configuration.
        dataset: the TRAINING part of a :class:`recbole_ib.data.dataset.MultimodalDataset`.

    Raises:
        ConfigurationError: the data set has fewer modalities than the model needs.
    """

    input_type = InputType.PAIRWISE
    modalities_required = 1
    #: what :class:`recbole_ib.training.trainer.MultimodalTrainer` does in every batch, in order
    training_phases: tuple[Phase, ...] = (Phase("model", "calculate_loss", "parameters"),)
    #: False for a backbone that trains its latents in some batches alone (LATTICE: the first of an epoch)
    latents_train_every_step = True
    #: False for a backbone whose latents act in the loss alone (BM3, FREEDOM): a ranking does not compute them
    latents_in_score = True
    #: what :meth:`item_graph` returns: None, ``shared`` (one graph of all modalities) or ``modality`` (a dict, one a modality)
    item_graph_kind: str | None = None
    #: True where the loss of a batch is the mean of the losses of its parts, weighted by their rows, and nothing is drawn a row: several
    #: processes may share the batch (:mod:`recbole_ib.training.distributed`). Not inherited: a subclass with another loss says it for itself
    row_mean_losses: bool = False
    #: True where the losses read the outputs of the batch's own items alone, each of them from its own row of the item graph if that has
    #: one layer (``n_item_layers``): GIB then gates the edges of these rows alone. Not inherited, as above
    losses_read_batch_items: bool = False
    #: the bottlenecks that a class puts on its backbone, see :mod:`recbole_ib.model.bottleneck`
    bottlenecks: tuple[str, ...] = ()

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        features = getattr(dataset, "modalities", None) or {}
        if len(features) < self.modalities_required:
            raise ConfigurationError(
                f"{type(self).__name__} needs at least {self.modalities_required} modality; the data set {config['dataset']!r} has "
                f"{len(features)}. Name feature files under the key 'modalities' of its yaml"
            )
        self.modalities = list(features)
        self.embedding_size = count(config, "embedding_size", least=1)
        self.reg_weight = float(config["reg_weight"] or 0.0)
        self._cache: tuple[Tensor, Tensor] | None = None

    # -- what a backbone gives ------------------------------------------------------------------------------------

    def item_latents(self, items: Tensor | None = None) -> Mapping[str, Tensor]:
        """Z^k: latent name -> ``[n_items, d]``, or of the given items ``[n, d]``; empty where a model has no ``projections``."""
        return self.fuse_modalities(self.modality_latents(items))

    def modality_latents(self, items: Tensor | None = None) -> dict[str, Tensor]:
        """The part of the latents that each modality makes: modality -> ``[n, d]``."""
        projections = getattr(self, "projections", None)
        return {} if projections is None else projections(items)

    def modality_features(self, items: Tensor | None = None) -> dict[str, Tensor]:
        """What those parts are made of: modality -> ``[n, d_m]``, as constants; in a mixed step as the projections read them."""
        projections = getattr(self, "projections", None)
        if projections is None:
            return {}
        read = getattr(projections, "inputs", projections.rows)
        return {m: read(m, items).detach() for m in projections.modalities}

    def fuse_modalities(self, parts: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The latents that :meth:`encode` takes, from the parts of the modalities."""
        return parts

    def latent_features(self, items: Tensor | None = None) -> dict[str, Tensor]:
        """M^k: for every latent name the features it is made of, ``[n_items, d_k]``, or of the given items, as constants."""
        projections = getattr(self, "projections", None)
        return {} if projections is None else {m: projections.rows(m, items).detach() for m in projections.modalities}

    def latent_masks(self, dataset) -> dict[str, Tensor]:
        """For every latent name the items that have a feature of their own, bool ``[n_items]``."""
        return dict(dataset.has_feature)

    def encode(self, latents: Mapping[str, Tensor], items: Tensor | None = None) -> Encoded:
        """User and item rows without the item graph; ``items`` restricts the item rows where :meth:`rows_needed` does."""
        raise NotImplementedError

    def item_graph(self, latents: Mapping[str, Tensor]) -> EdgeGraph | None:
        """The item-item graph with the current weights, or ``None`` for a model without one."""
        return None

    def attach(self, encoded: Encoded, graph: EdgeGraph | None) -> tuple[Tensor, Tensor]:
        """User and item outputs given an item graph: ``[n_users, D]``, ``[rows, D]``."""
        return encoded.user, encoded.item

    def content_parameters(self) -> list[nn.Parameter]:
        """Theta_2 = [C, Z]: the users' content preferences and the item projections (IBMRec Eq. 31)."""
        return []

    def user_content(self, users: Tensor) -> Tensor | None:
        """c_a, the users' preferences in the space of the concatenated latents, ``[n, K d]``; ``None`` without latents."""
        return None

    def rows_needed(self, interaction) -> Tensor | None:
        """The distinct items whose rows a batch needs, or ``None`` for all (a graph model's neighbors)."""
        return None

    def latent_rows(self, interaction) -> Tensor | None:
        """The distinct items whose LATENTS a batch needs, sorted, or ``None`` for all."""
        return self.rows_needed(interaction)

    def output_rows(self, interaction) -> Tensor | None:
        """The distinct nodes (users, then items) whose outputs a batch's losses read, sorted, or ``None`` for all."""
        return None

    # -- what a bottleneck changes --------------------------------------------------------------------------------

    def batch_graph(self, graph, interaction):
        """The part of the item graph(s) that a batch's losses read: all of it, unless a bottleneck saves by less."""
        return graph

    def ranking_graph(self, graph, latents: Mapping[str, Tensor]):
        """The item graph(s) to rank with, given the backbone's own: these, unless a bottleneck refines them."""
        return graph

    def bottleneck_state(self, items: Tensor) -> dict[str, Tensor]:
        """What the bottlenecks let through, by name, of the given distinct items: scalars for the diagnostics; ``{}`` without one."""
        return {}

    # -- what all models do with it -------------------------------------------------------------------------------

    def forward(self, latents: Mapping[str, Tensor] | None = None, item_graph=None):
        """All user and item outputs, ``[n_users, D]`` and ``[n_items, D]``, with replaced latents or item graph(s) if given."""
        latents = self.scoring_latents() if latents is None else latents
        graph = self.item_graph(latents) if item_graph is None else item_graph
        return self.attach(self.encode(latents), self.ranking_graph(graph, latents))

    def scoring_latents(self) -> Mapping[str, Tensor]:
        """The latents that a ranking of all items reads."""
        return self.item_latents() if self.latents_in_score else {}

    def join(self, encoded: Encoded, graph, rows: Tensor | None = None) -> Joined:
        """:meth:`attach`, with what the loss reads besides the outputs. With ``rows`` of :meth:`output_rows` the others may be NaN."""
        return Joined(*self.attach(encoded, graph))

    def outputs(self, encoded: Encoded, graph, rows: Tensor | None = None) -> Joined:
        """:meth:`join`, or :meth:`attach` where a subclass has changed that alone: it ranks by it, so it trains by it."""
        if _overrides_join(type(self)):
            return Joined(*self.attach(encoded, graph))
        return self.join(encoded, graph) if rows is None else self.join(encoded, graph, rows)

    def batch_pass(self, interaction) -> BatchPass:
        """The forward pass of a batch."""
        rows, latent_rows = self.rows_needed(interaction), self.latent_rows(interaction)
        latents = self.item_latents(latent_rows)
        encoded = self.encode(latents, rows)
        graph = self.batch_graph(self.item_graph(latents), interaction)
        ranking = self.ranking_graph(graph, latents)
        outputs = self.output_rows(interaction)
        joined = self.outputs(encoded, ranking, outputs)
        return BatchPass(interaction, rows, latent_rows, latents, encoded, graph, ranking, joined, outputs)

    def pass_losses(self, done: BatchPass) -> dict[str, Tensor]:
        """The loss terms of a batch, by name."""
        return self.ranking_losses(done.interaction, done.encoded, done.joined.user, done.joined.item, done.rows)

    def calculate_loss(self, interaction) -> NamedLosses:
        """The batch's loss terms by name; their sum is minimized."""
        return NamedLosses(self.pass_losses(self.batch_pass(interaction)))

    def batch_ids(self, interaction, rows: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Users, positive and negative items of a batch; item ids as positions in ``rows`` where that is given."""
        users, positives, negatives = (interaction[f] for f in (self.USER_ID, self.ITEM_ID, self.NEG_ITEM_ID))
        if rows is not None:
            positives, negatives = torch.searchsorted(rows, positives), torch.searchsorted(rows, negatives)
        return users, positives, negatives

    def batch_nodes(self, interaction) -> Tensor:
        """The distinct users and items of a batch as nodes, users first: what :meth:`output_rows` returns."""
        users, positives, negatives = self.batch_ids(interaction)
        return torch.unique(torch.cat([users, self.n_users + positives, self.n_users + negatives]))

    def split_nodes(self, outputs: Tensor, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Users and items of the nodes' outputs; ``rows``: the nodes that these are of, and any other becomes NaN.

        NaN and not 0: a loss that reads a row which nobody computed is not finite, and training says so.
        """
        if rows is not None:
            n_nodes = self.n_users + self.n_items
            outputs = outputs.new_full((n_nodes, outputs.shape[1]), torch.nan).index_copy(0, rows, outputs)
        return outputs.split([self.n_users, self.n_items])

    def ranking_losses(self, interaction, encoded: Encoded, user: Tensor, item: Tensor, rows=None) -> dict[str, Tensor]:
        """``bpr`` and ``reg``, the terms that a backbone has without a bottleneck."""
        users, positives, negatives = self.batch_ids(interaction, rows)
        # one gather for positives and negatives together: the backward scatters once. F.embedding, not indexing, whose
        # backward adds in the order of the threads: two runs with one seed would differ on several CPU threads
        positive, negative = F.embedding(torch.cat([positives, negatives]), item).split(positives.numel())
        u = F.embedding(users, user)
        return {
            "bpr": bpr(u, positive, negative),
            "reg": self.reg_weight * self.penalty(users, positives, negatives, encoded, user, item),
        }

    def penalty(self, users, positives, negatives, encoded: Encoded, user: Tensor, item: Tensor) -> Tensor:
        """Squared L2 norm of the batch's layer-0 rows over the batch size (IBMRec Eq. 29; LightGCN)."""
        rows = (F.embedding(users, encoded.user0), F.embedding(torch.cat([positives, negatives]), encoded.item0))
        return sum(r.square().sum() for r in rows) / users.numel()

    def predict(self, interaction) -> Tensor:
        """Scores of the given user-item pairs, ``[n]``."""
        user, item = self._embeddings()
        return (user[interaction[self.USER_ID]] * item[interaction[self.ITEM_ID]]).sum(dim=1)

    def full_sort_predict(self, interaction) -> Tensor:
        """Scores of all items for the given users, flattened: ``[n * n_items]``, as RecBole's evaluator takes them."""
        user, item = self._embeddings()
        return (user[interaction[self.USER_ID]] @ item.T).flatten()

    def _embeddings(self) -> tuple[Tensor, Tensor]:
        """One propagation an evaluation: kept while in evaluation mode, dropped by ``train()`` and ``load_state_dict``."""
        if self.training:
            return self.forward()
        if self._cache is None:
            with torch.no_grad():
                self._cache = self.forward()
        return self._cache

    def train(self, mode: bool = True):
        self._cache = None
        return super().train(mode)

    def load_state_dict(self, *args, **kwargs):
        self._cache = None
        return super().load_state_dict(*args, **kwargs)

    def pre_epoch(self, epoch: int) -> None:
        """Called by the trainer before every epoch; a model that rebuilds something does it here."""


def _overrides_join(model_class: type) -> bool:
    """Whether a subclass has changed ``attach`` alone, beneath the class whose ``join`` stands for it."""
    join, attach = (next(c for c in model_class.__mro__ if name in vars(c)) for name in ("join", "attach"))
    return attach is not join and issubclass(attach, join)


def backbone_of(model_class: type) -> type:
    """The backbone of a class with bottlenecks; a class without any is its own."""
    plain = (c for c in model_class.__mro__ if issubclass(c, MultimodalRecommender) and not c.bottlenecks)
    return next(plain) if model_class.bottlenecks else model_class
