"""What the plug-ins share: a recommender around a backbone of the catalog."""

from __future__ import annotations

from collections.abc import Mapping

from recbole.utils import get_model
from torch import Tensor, nn

from recbole_ib.errors import ConfigurationError
from recbole_ib.graph import EdgeGraph
from recbole_ib.model.base import MultimodalRecommender
from recbole_ib.model.types import Encoded, NamedLosses


class BackboneWrapper(MultimodalRecommender):
    """A recommender that holds another one and is it to the outside: its outputs, its losses, its scores.

    A plug-in changes what its backbone reads, through ``backbone.projections``
    (:class:`recbole_ib.model.layers.encoder.LinearEncoder`), or adds to its loss. The backbone is built from the same
    configuration; its yaml lies one layer below the plug-in's.

    Yaml: ``backbone`` (the name of a model that reads features), and every key of that model.

    Raises:
        ConfigurationError: the backbone has no projections with these settings, or trains in several steps a batch.
    """

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.backbone = self.build_backbone(config, dataset)
        self.latents_in_score = self.backbone.latents_in_score
        self.latents_train_every_step = self.backbone.latents_train_every_step

    def build_backbone(self, config, dataset) -> MultimodalRecommender:
        """A backbone with fresh weights that this plug-in can work on."""
        backbone = get_model(config["backbone"])(config, dataset)
        name, plugin = type(backbone).__name__, type(self).__name__
        if getattr(backbone, "projections", None) is None:
            frozen = config["item_graph"] == "frozen"
            remedy = "set item_graph: learned" if frozen else "choose another backbone"
            raise ConfigurationError(
                f"{plugin} works on the feature projections of its backbone, and {name} has none with these settings; {remedy}"
            )
        if len(backbone.training_phases) > 1:
            steps = ", ".join(phase.name for phase in backbone.training_phases)
            raise ConfigurationError(f"{plugin} needs a backbone with one training step a batch; {name} has {steps}")
        return backbone

    # -- the backbone's part of the contract ----------------------------------------------------------------------

    def item_latents(self, items: Tensor | None = None) -> Mapping[str, Tensor]:
        return self.backbone.item_latents(items)

    def modality_latents(self, items: Tensor | None = None) -> dict[str, Tensor]:
        return self.backbone.modality_latents(items)

    def modality_features(self, items: Tensor | None = None) -> dict[str, Tensor]:
        return self.backbone.modality_features(items)

    def fuse_modalities(self, parts: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return self.backbone.fuse_modalities(parts)

    def latent_features(self, items: Tensor | None = None) -> dict[str, Tensor]:
        return self.backbone.latent_features(items)

    def latent_masks(self, dataset) -> dict[str, Tensor]:
        return self.backbone.latent_masks(dataset)

    def encode(self, latents: Mapping[str, Tensor], items: Tensor | None = None) -> Encoded:
        return self.backbone.encode(latents, items)

    def item_graph(self, latents: Mapping[str, Tensor]) -> EdgeGraph | None:
        return self.backbone.item_graph(latents)

    def attach(self, encoded: Encoded, graph: EdgeGraph | None) -> tuple[Tensor, Tensor]:
        return self.backbone.attach(encoded, graph)

    def content_parameters(self) -> list[nn.Parameter]:
        return self.backbone.content_parameters()

    def user_content(self, users: Tensor) -> Tensor | None:
        return self.backbone.user_content(users)

    def rows_needed(self, interaction) -> Tensor | None:
        return self.backbone.rows_needed(interaction)

    def latent_rows(self, interaction) -> Tensor | None:
        return self.backbone.latent_rows(interaction)

    # -- what a backbone may do in its own way --------------------------------------------------------------------

    def forward(self, latents: Mapping[str, Tensor] | None = None, item_graph: EdgeGraph | None = None):
        return self.backbone(latents, item_graph)

    def calculate_loss(self, interaction) -> NamedLosses:
        return self.backbone.calculate_loss(interaction)

    def predict(self, interaction) -> Tensor:
        return self.backbone.predict(interaction)

    def full_sort_predict(self, interaction) -> Tensor:
        return self.backbone.full_sort_predict(interaction)

    def _embeddings(self) -> tuple[Tensor, Tensor]:
        # the backbone keeps the tables of an evaluation; train() reaches it as a submodule
        return self.backbone._embeddings()

    def load_state_dict(self, *args, **kwargs):
        # torch loads submodules without calling their load_state_dict, and with it their dropping of those tables
        self.backbone._cache = None
        return super().load_state_dict(*args, **kwargs)

    def pre_epoch(self, epoch: int) -> None:
        self.backbone.pre_epoch(epoch)
