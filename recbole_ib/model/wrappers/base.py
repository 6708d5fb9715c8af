"""What the wrappers share: a recommender around a backbone of the catalog."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from recbole.data.interaction import Interaction
from recbole.utils import get_model
from torch import Tensor

from recbole_ib.errors import ConfigurationError
from recbole_ib.model.base import MultimodalRecommender
from recbole_ib.model.layers.encoder import ModalityEncoder
from recbole_ib.model.types import BatchSubset, Encoded, ItemGraph, NamedLosses, Outputs, UserContent


class BackboneWrapper(MultimodalRecommender):
    """A recommender that holds another one and is it to the outside: its outputs, its losses, its scores.

    A wrapper changes what its backbone reads, through ``backbone.encoder``
    (:class:`recbole_ib.model.layers.encoder.ModalityEncoder`), or adds to its loss. The backbone is built
    from the same configuration; its yaml lies one layer below the wrapper's. The key ``backbone`` names it,
    and every key of that model is read.

    Raises:
        ConfigurationError: the backbone has no encoder with these settings, or trains in several steps per
            batch.
    """

    def __init__(self, config: Any, dataset: Any):
        super().__init__(config, dataset)
        self.backbone = self.build_backbone(config, dataset)

    def build_backbone(self, config: Any, dataset: Any) -> MultimodalRecommender:
        """Return a backbone with fresh weights that this wrapper can work on."""
        backbone = get_model(config["backbone"])(config, dataset)
        name, wrapper = type(backbone).__name__, type(self).__name__
        if backbone.encoder is None:
            frozen = config["item_graph"] == "frozen"
            remedy = "set item_graph: learned" if frozen else "choose another backbone"
            raise ConfigurationError(
                f"{wrapper} works on the feature projections of its backbone, and {name} has none with these "
                f"settings; {remedy}"
            )
        phases = backbone.phases()
        if len(phases) > 1:
            steps = ", ".join(phase.name for phase in phases)
            raise ConfigurationError(
                f"{wrapper} needs a backbone with one training step per batch; {name} has {steps}"
            )
        return backbone

    @property
    def latents_in_score(self) -> bool:
        """Whether a ranking of the backbone reads the latents."""
        return self.backbone.latents_in_score

    @property
    def latents_role(self) -> Literal["score", "graph", "loss"]:  # type: ignore[override]  # that of an object
        """Where the latents of the backbone act."""
        return self.backbone.latents_role

    @property
    def feature_encoder(self) -> ModalityEncoder | None:
        """The encoder of the backbone."""
        return self.backbone.encoder

    # -- the backbone's part of the contract -----------------------------------------------------------------

    def latents(self, items: Tensor | None = None) -> Mapping[str, Tensor]:
        """Return those of the backbone."""
        return self.backbone.latents(items)

    def encode(self, latents: Mapping[str, Tensor], items: Tensor | None = None) -> Encoded:
        """Return what the backbone does."""
        return self.backbone.encode(latents, items)

    def item_graph(self, latents: Mapping[str, Tensor]) -> ItemGraph:
        """Return that of the backbone."""
        return self.backbone.item_graph(latents)

    def apply_item_graph(self, encoded: Encoded, graph: ItemGraph, nodes: Tensor | None = None) -> Outputs:
        """Return what the backbone does."""
        return self.backbone.apply_item_graph(encoded, graph, nodes)

    def user_content(self) -> UserContent | None:
        """Return that of the backbone."""
        return self.backbone.user_content()

    def batch_subset(self, interaction: Interaction) -> BatchSubset:
        """Return that of the backbone."""
        return self.backbone.batch_subset(interaction)

    # -- what a backbone may do in its own way ---------------------------------------------------------------

    def forward(self, latents: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Return the outputs of the backbone."""
        return self.backbone(latents)

    def calculate_loss(self, interaction: Interaction) -> NamedLosses:
        """Return the loss terms of the backbone."""
        return self.backbone.calculate_loss(interaction)

    def predict(self, interaction: Interaction) -> Tensor:
        """Return the backbone's scores of the given user-item pairs."""
        return self.backbone.predict(interaction)

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Return the backbone's scores of all items for the given users."""
        return self.backbone.full_sort_predict(interaction)

    def embeddings(self) -> tuple[Tensor, Tensor]:
        """Return those that the backbone keeps in an evaluation; ``train()`` reaches it as a submodule."""
        return self.backbone.embeddings()

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Load weights.

        Torch loads a submodule without its own ``load_state_dict``, which would drop its embeddings.
        """
        self.backbone.forget_embeddings()
        return super().load_state_dict(*args, **kwargs)

    def pre_epoch(self, epoch: int) -> None:
        """Rebuild what the backbone rebuilds."""
        self.backbone.pre_epoch(epoch)
