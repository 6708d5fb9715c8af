"""FIB, the feature-level bottleneck of IBMRec (arXiv 2501.12175)."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_ib.bottleneck import FeatureBottleneck, FeatureKernels, conditional_contrast
from recbole_ib.model.bottleneck import LATENTS, Bottleneck, register_bottleneck
from recbole_ib.model.graphs import any_feature
from recbole_ib.model.settings import Declaration, Search, Setting
from recbole_ib.model.types import Backbone, Batch, NamedLosses, Phase
from recbole_ib.model.user_content import UserContent
from recbole_ib.utils.validate import Number

FIGURE_5 = "figure 5 of the IBMRec paper, alpha x sigma^2, arXiv 2501.12175"


@register_bottleneck
class FIB(Bottleneck):
    """Feature-level bottleneck.

    Alpha HSIC(Z, M) in L_1 (Eq. 22), and L_2, its maximizing half (section 4.2.1).

    A model whose users have no content preferences c_a has no L_2. "The batch's items" are its distinct
    positive items. A weight or rate of 0 leaves that loss out, and its computation.
    """

    name = "fib"
    settings: ClassVar[tuple[Declaration, ...]] = (
        Setting(
            "fib_weight",
            1.0,
            "alpha, of HSIC(Z, M); 0 leaves the loss out and keeps L_2",
            Number(least=0),
            source="paper: Clothing 3, Sports 1, Baby 1",
            search=Search.loguniform(0.1, 5.0, source=FIGURE_5),
            symbol=r"$\alpha$",
        ),
        Setting(
            "sigma2",
            0.15,
            "sigma^2 of the FIB kernel",
            Number(above=0),
            source="paper: Clothing .25, Sports .20, Baby .15",
            search=Search.choice(0.10, 0.15, 0.20, 0.25, 0.30, source=FIGURE_5),
            symbol=r"$\sigma^2$ of FIB",
        ),
        Setting(
            "contrastive_temperature",
            0.2,
            "tau of L_2",
            Number(above=0),
            search=Search.choice(0.1, 0.2, 0.5, 1.0, source="around the default; the paper states no range"),
            symbol=r"$\tau$",
        ),
        Setting(
            "contrastive_rate",
            1.0,
            "the learning rate of L_2 as a multiple of learning_rate; 0: no L_2",
            Number(least=0),
        ),
        Setting(
            "kernel_memory",
            1.0,
            "GiB for the features' kernels, kept for the whole run where all n_items^2 numbers fit; 0: "
            "computed in every batch",
            Number(least=0),
        ),
    )
    requires = frozenset({LATENTS})

    has_content: Tensor

    def __init__(self, model: Backbone, config: Any, dataset: Any):
        super().__init__(model, config, dataset)
        self.weight, self.rate = config["fib_weight"], config["contrastive_rate"]
        self.temperature = config["contrastive_temperature"]
        self.loss, encoder = FeatureBottleneck(config["sigma2"]), model.feature_encoder
        masks = encoder.masks(dataset)
        for name, mask in masks.items():
            self.register_buffer(f"mask_{name}", mask, persistent=False)
        self.register_buffer("has_content", any_feature(dataset), persistent=False)
        # tuned features change in every step, and their kernels with them
        widths = {} if encoder.tuned else encoder.widths
        memory = config["kernel_memory"] * 2**30 / len(masks)
        self.kernels = FeatureKernels(self.loss.sigma2, model.n_items, widths, memory)
        if model.user_content() is None:
            model.logger.info(
                f"{config['model']}: the users have no preferences in the space of the item latents, so FIB "
                "is HSIC(Z, M) alone, without L_2"
            )

    def losses(self, model: Backbone, batch: Batch) -> dict[str, Tensor]:
        """Return ``fib``, every modality on the items that have it (Algorithm 1, line 7)."""
        if not self.weight:
            return {}
        rows, encoder = batch.latent_rows(batch.items), model.feature_encoder
        known = {name: self.get_buffer(f"mask_{name}")[batch.items] for name in batch.latents}
        z = {name: table[rows[known[name]]] for name, table in batch.latents.items()}
        return {
            "fib": self.weight
            * self.loss.of_kernels(z, self.kernels.of(batch.items, known, encoder.features))
        }

    def phases(self, model: Backbone, phases: list[Phase]) -> list[Phase]:
        """Add L_2 after L_1 (Algorithm 1, lines 10 to 12)."""
        content = model.user_content()
        if content is None or not self.rate:
            return phases
        renamed = [phase._replace(name="L_1") if phase.main else phase for phase in phases]
        second = Phase(
            "L_2",
            lambda interaction: self.contrastive_loss(model, interaction),
            content.parameters,
            self.rate,
        )
        return [*renamed, second]

    def contrastive_loss(self, model: Backbone, interaction: Interaction) -> NamedLosses:
        """Return L_2, on the pairs whose item has content."""
        known = self.has_content[interaction[model.ITEM_ID]]
        items, positives = torch.unique(interaction[model.ITEM_ID][known], return_inverse=True)
        content = torch.cat(list(model.training_latents(items).values()), dim=1)
        content_rows = cast("UserContent", model.user_content()).rows
        users = content_rows(interaction[model.USER_ID][known])
        return NamedLosses({"contrastive": conditional_contrast(users, content, positives, self.temperature)})
