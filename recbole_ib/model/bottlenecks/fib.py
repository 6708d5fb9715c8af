"""FIB, the feature-level bottleneck of IBMRec (arXiv 2501.12175)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, cast

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_ib.bottleneck import conditional_contrast
from recbole_ib.bottleneck.contrastive import inclusion_log_probability
from recbole_ib.bottleneck.hsic import HSIC_ESTIMATORS
from recbole_ib.errors import ConfigurationError
from recbole_ib.model.bottleneck import LATENTS, Bottleneck, register_bottleneck
from recbole_ib.model.bottlenecks.feature_hsic import MEDIAN, FeatureHSIC
from recbole_ib.model.bottlenecks.known_items import KnownItems
from recbole_ib.model.graphs import any_feature
from recbole_ib.model.settings import Declaration, Search, Setting
from recbole_ib.model.shared_settings import (
    CONTRAST_PAIRS,
    DEVELOPMENT,
    HSIC_ITEMS,
    KERNEL_MEMORY,
    NONE_OR_COLLABORATIVE,
)
from recbole_ib.model.types import Backbone, Batch, NamedLosses, Phase, some
from recbole_ib.model.user_content import UserContent
from recbole_ib.utils.validate import AnyOf, Bool, Number, OneOf

AROUND = "around the default; the paper's figure 5 is of the biased estimate"


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
            0.01,
            "alpha, of HSIC(Z, M); 0 leaves the loss out and keeps L_2",
            Number(least=0),
            source=f"{DEVELOPMENT}; paper, of the biased estimate: Clothing 3, Sports 1, Baby 1",
            search=Search.loguniform(0.001, 0.3, source=AROUND),
            symbol=r"$\alpha$",
        ),
        Setting(
            "fib_estimator",
            "normalized",
            "biased: the paper's; unbiased: 0 for independent rows; normalized: from 0 to 1 on any set",
            OneOf(*HSIC_ESTIMATORS),
            source=f"{DEVELOPMENT}; paper: biased",
        ),
        Setting(
            "sigma2",
            MEDIAN,
            "sigma^2 of the FIB kernel; median: half the features' median squared distance",
            AnyOf(Number(above=0), OneOf(MEDIAN)),
            source=f"{DEVELOPMENT}; paper: Clothing .25, Sports .20, Baby .15",
            search=Search.choice(MEDIAN, 0.15, 0.30, 1.0, source=AROUND),
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
            "contrastive_negatives",
            "unknown",
            "batch: the batch's other items; unknown: of these the ones that the user is not known to like",
            OneOf("batch", "unknown"),
            source="one planted seed, results/planted.md; paper: batch",
        ),
        Setting(
            "contrastive_correction",
            False,
            "subtract log P(an item stands in a batch) from its logit: popular items are drawn more often",
            Bool(),
            source="paper: no",
        ),
        Setting(
            "contrastive_condition",
            "none",
            "collaborative: add the ids' score to the logits: content is to explain what ids do not (Eq. 17)",
            NONE_OR_COLLABORATIVE,
            source="paper: none",
        ),
        HSIC_ITEMS,
        CONTRAST_PAIRS,
        KERNEL_MEMORY,
    )
    requires = frozenset({LATENTS})

    has_content: Tensor
    offsets: Tensor | None

    def __init__(self, model: Backbone, config: Any, dataset: Any):
        super().__init__(model, config, dataset)
        self.weight, self.rate = config["fib_weight"], config["contrastive_rate"]
        self.temperature = config["contrastive_temperature"]
        encoder = model.feature_encoder
        self.hsic = FeatureHSIC(
            encoder.features,
            encoder.masks(dataset),
            tuned=encoder.tuned,
            config=config,
            sigma2=config["sigma2"],
            estimator=config["fib_estimator"],
        )
        self.register_buffer("has_content", any_feature(dataset), persistent=False)
        self.contrast_pairs = int(config["contrast_pairs"])
        content = model.user_content()
        self.conditioned = config["contrastive_condition"] == "collaborative"
        if self.conditioned and (content is None or content.ids is None):
            raise ConfigurationError(
                "contrastive_condition: collaborative needs user and item ids that are scored, and "
                f"{config['model']} has none; set contrastive_condition: none"
            )
        contrasts = content is not None and bool(self.rate)
        leaves_out = contrasts and config["contrastive_negatives"] == "unknown"
        self.known_items = KnownItems(dataset) if leaves_out else None
        self.register_buffer("offsets", None, persistent=False)
        if contrasts and config["contrastive_correction"]:
            counts = torch.from_numpy(dataset.inter_matrix(form="csr").getnnz(axis=0))
            self.offsets = inclusion_log_probability(counts, int(config["train_batch_size"]))
        if content is None:
            model.logger.info(
                f"{config['model']}: the users have no preferences in the space of the item latents, so FIB "
                "is HSIC(Z, M) alone, without L_2"
            )

    def losses(self, model: Backbone, batch: Batch) -> dict[str, Tensor]:
        """Return ``fib``, every modality on the items that have it (Algorithm 1, line 7)."""
        if not self.weight:
            return {}
        return {"fib": self.weight * self.hsic(batch.latents, batch, model.feature_encoder.features)}

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
        """Return L_2, on the pairs whose item has content, or on some of them."""
        pairs = some(self.has_content[interaction[model.ITEM_ID]].nonzero().flatten(), self.contrast_pairs)
        items, positives = torch.unique(interaction[model.ITEM_ID][pairs], return_inverse=True)
        content = torch.cat(list(model.training_latents(items).values()), dim=1)
        preferences = cast("UserContent", model.user_content())
        users, of_users = torch.unique(interaction[model.USER_ID][pairs], return_inverse=True)
        condition = None
        if self.conditioned:
            ids = cast("Callable[[Tensor], Tensor]", preferences.ids)
            with torch.no_grad():
                condition = ids(users), model.item_embedding(items)
        loss = conditional_contrast(
            preferences.rows(users),
            content,
            positives,
            self.temperature,
            of_users=of_users,
            left_out=None if self.known_items is None else self.known_items.among(users, items),
            offsets=None if self.offsets is None else self.offsets[items],
            condition=condition,
        )
        return NamedLosses({"contrastive": loss})
