"""SGFD: feature projections distilled from a teacher of the items' categories."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar, cast

import torch
from recbole.data.interaction import Interaction
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_ib.model.layers.encoder import ModalityEncoder
from recbole_ib.model.settings import Declaration, Search, Setting
from recbole_ib.model.shared_settings import backbone_setting
from recbole_ib.model.types import NamedLosses
from recbole_ib.model.wrappers.base import BackboneWrapper
from recbole_ib.model.wrappers.item_labels import KMEANS, UNKNOWN, item_labels
from recbole_ib.ops.linear import Linear
from recbole_ib.ops.normalize import unit_rows
from recbole_ib.utils.validate import Bool, Integer, Number, OneOf, Text


class SGFD(BackboneWrapper):
    """SGFD (Liu et al., ACM MM 2023), on any backbone.

    "Semantic-Guided Feature Distillation for Multimodal Recommendation".

    The backbone reads student_m(f) = unit(lrelu(W_m f + b_m)) in place of its projections, in training and in
    scoring. Beside it, on the batch's positive items with class y, h_m = teacher_m(f), z_m = student_m(f),
    one classifier C_m per modality for both, and p(x) = softmax(C_m x / T):

        class    = mean_m CE(C_m h_m, y)                    fusion  = CE(C lrelu(A [h_1; ..; h_M]), y)
        response = mean_m mean |p(h_m) - p(z_m)|            feature = mean_m mean (z_m - h_m)^2
        loss = L_backbone + ce_weight (class + fusion) + kd_weight (response + feature)

    Teacher, students and backbone train together.

    Yaml: ``backbone`` and its keys; ``ce_weight``, ``kd_weight``, ``sgfd_temperature`` T, ``sgfd_labels``,
    ``n_classes``, ``label_position`` (see :func:`recbole_ib.model.wrappers.item_labels.item_labels`),
    ``teacher_activation``, ``detach_teacher`` (the distillation terms train the students alone),
    ``legacy_softmax`` (class = CE of softmax(C_m h_m) taken for logits, without T, as released).
    """

    settings: ClassVar[tuple[Declaration, ...]] = (
        backbone_setting("paper: BM3, GRCN, MAML; IBMRec's tables: LATTICE"),
        Setting(
            "ce_weight",
            0.1,
            "of the class and fusion terms",
            Number(least=0),
            search=Search.choice(
                0.01, 0.1, 1.0, source="around the release's value; none for Amazon is published"
            ),
        ),
        Setting(
            "kd_weight",
            0.1,
            "of the response and feature terms",
            Number(least=0),
            search=Search.choice(
                0.01, 0.1, 1.0, source="around the release's value; none for Amazon is published"
            ),
        ),
        Setting(
            "sgfd_temperature",
            10.0,
            "T, of the response term",
            Number(above=0),
            search=Search.choice(
                5.0, 10.0, 50.0, 100.0, source="around the release's value; none for Amazon is published"
            ),
        ),
        Setting(
            "sgfd_labels",
            KMEANS,
            "a token or token_seq field of the item file, or kmeans: clusters of the features instead of "
            "categories",
            Text("a field of the item file, or kmeans"),
        ),
        Setting("n_classes", 50, "kmeans: clusters, at most one for ten items; also tried: 20", Integer(2)),
        Setting(
            "label_position",
            1,
            "token_seq: which entry, from 0; 1 is the second level of a category path",
            Integer(),
        ),
        Setting(
            "teacher_activation",
            "linear",
            "linear: as released; relu: between the teacher's layers",
            OneOf("linear", "relu"),
        ),
        Setting(
            "detach_teacher", False, "True: the response and feature terms train the students alone", Bool()
        ),
        Setting(
            "legacy_softmax",
            False,
            "True: the class term reads softmaxed outputs, without T, as logits, as released",
            Bool(),
        ),
    )

    labels: Tensor

    def __init__(self, config: Any, dataset: Any):
        super().__init__(config, dataset)
        self.ce_weight, self.kd_weight = float(config["ce_weight"]), float(config["kd_weight"])
        self.temperature = float(config["sgfd_temperature"])
        self.legacy_softmax = bool(config["legacy_softmax"])
        self.detach_teacher = bool(config["detach_teacher"])
        encoder = cast("ModalityEncoder", self.backbone.encoder)
        self.backbone.encoder = encoder.replace_projections(Students)
        modules = self.backbone.encoder.modules()
        self.students = next(module for module in modules if isinstance(module, Students))
        self.register_buffer("labels", item_labels(config, dataset))
        n_classes = int(self.labels.max()) + 1
        if config["sgfd_labels"] == KMEANS:
            self.logger.warning(
                f"SGFD: sgfd_labels is {KMEANS}: {n_classes} clusters of the features stand in for the "
                "items' categories, which the published model needs; say so where you report its figures"
            )
        relu = config["teacher_activation"] == "relu"
        self.teacher = Teacher(self.students, n_classes, relu)

    def calculate_loss(self, interaction: Interaction) -> NamedLosses:
        """Return the backbone's terms and ``class``, ``fusion``, ``response``, ``feature``, all weighted."""
        losses = super().calculate_loss(interaction)
        terms = self.distillation(interaction[self.ITEM_ID])
        weights = {
            "class": self.ce_weight,
            "fusion": self.ce_weight,
            "response": self.kd_weight,
            "feature": self.kd_weight,
        }
        return NamedLosses(
            {
                **dict(zip(losses.names, losses, strict=True)),
                **{name: weights[name] * term for name, term in terms.items()},
            }
        )

    def distillation(self, items: Tensor) -> dict[str, Tensor]:
        """Return the four terms, unweighted, of items ``[n]``; an item that comes twice counts twice."""
        ids, rows = torch.unique(items, return_inverse=True)
        teacher = {m: F.embedding(rows, h) for m, h in self.teacher(ids).items()}
        student = {m: F.embedding(rows, z) for m, z in self.students(ids).items()}
        labels = self.labels[items]
        terms: dict[str, Any] = dict.fromkeys(("class", "response", "feature"), 0.0)
        for m, h in teacher.items():
            logits = self.teacher.classifier[m](h)
            classes = F.softmax(logits, dim=1) if self.legacy_softmax else logits
            terms["class"] += cross_entropy(classes, labels) / len(teacher)
            p = F.softmax(logits / self.temperature, dim=1)
            if self.detach_teacher:
                p = p.detach()
            target = h.detach() if self.detach_teacher else h
            q = F.softmax(self.teacher.classifier[m](student[m]) / self.temperature, dim=1)
            terms["response"] += (p - q).abs().mean() / len(teacher)
            terms["feature"] += (student[m] - target).square().mean() / len(teacher)
        terms["fusion"] = cross_entropy(self.teacher.fused_logits(teacher), labels)
        return terms


class Students(ModalityEncoder):
    """unit(lrelu(W_m f + b_m)), by the layers, tables and initial values of the replaced projections.

    A row of zeros stays zero.
    """

    def __init__(self, replaced: ModalityEncoder):
        super().__init__()
        self.replaced = replaced
        self.modalities, self.tuned = list(replaced.modalities), replaced.tuned
        self.out_dim = replaced.first_layer(self.modalities[0]).out_features

    def forward(self, items: Tensor | None = None) -> dict[str, Tensor]:
        """Return z_m by name."""
        layers = {m: self.first_layer(m) for m in self.modalities}
        return {
            m: unit_rows(F.leaky_relu(layer(self.inputs(m, items))), tiny=0.0) for m, layer in layers.items()
        }

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        self.replaced.reset_parameters()

    def table(self, name: str) -> Tensor:
        """Return M^k."""
        return self.replaced.table(name)

    def rows(self, name: str, items: Tensor | None) -> Tensor:
        """Return M^k of the given items, or of all."""
        return self.replaced.rows(name, items)

    def inputs(self, name: str, items: Tensor | None) -> Tensor:
        """Return what the layers read."""
        return self.replaced.inputs(name, items)

    def first_layer(self, name: str) -> nn.Linear:
        """Return W_m, b_m."""
        return self.replaced.first_layer(name)

    def set_first_layer(self, name: str, layer: nn.Linear) -> None:
        """Put another W_m, b_m in its place."""
        self.replaced.set_first_layer(name, layer)

    def masks(self, dataset: Any) -> dict[str, Tensor]:
        """Return the items that have a feature of their own, by name."""
        return self.replaced.masks(dataset)


class Teacher(nn.Module):
    """h_m = unit(lrelu(chain of linear layers of f)), and the classifiers.

    Training alone reads it, no score does.

    Args:
        students: whose feature rows the teacher reads, trained or not; not part of this module.
        n_classes: C.
        relu: a ReLU between the layers; the release has none.
    """

    def __init__(self, students: Students, n_classes: int, relu: bool = False):
        super().__init__()
        # in a tuple: a submodule here would bring the students' parameters along, and take them away with the
        # teacher
        self._students = (students,)
        self.chain = nn.ModuleDict()
        self.classifier = nn.ModuleDict()
        out = students.out_dim
        for m in students.modalities:
            sizes = teacher_widths(students.first_layer(m).in_features, out)
            layers: list[nn.Module] = []
            for a, b in pairwise(sizes):
                layers += [nn.ReLU()] if relu and layers else []
                layers.append(nn.Linear(a, b) if layers else Linear(a, b))
            self.chain[m] = nn.Sequential(*layers)
            self.classifier[m] = nn.Linear(out, n_classes)
        self.fusion = nn.Linear(len(students.modalities) * out, out)
        self.fused_classifier = nn.Linear(out, n_classes)

    def forward(self, items: Tensor) -> dict[str, Tensor]:
        """Return h_m by modality."""
        (students,) = self._students
        return {
            m: unit_rows(F.leaky_relu(chain(students.inputs(m, items))), tiny=0.0)
            for m, chain in self.chain.items()
        }

    def fused_logits(self, outputs: dict[str, Tensor]) -> Tensor:
        """Return the class scores of all modalities together, ``[n, C]``: their complementary information."""
        return self.fused_classifier(F.leaky_relu(self.fusion(torch.cat(list(outputs.values()), dim=1))))


def teacher_widths(features: int, out: int) -> list[int]:
    """Return the widths from the features to ``out``.

    Each is a quarter of the one before while that is larger than ``out`` (4096, 1024, 256, 64).
    """
    widths = [features]
    while widths[-1] // 4 > out:
        widths.append(widths[-1] // 4)
    return [*widths, out]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross entropy of the rows that have a label; 0 where none has."""
    known = (labels != UNKNOWN).sum().clamp_min(1)
    return F.cross_entropy(logits, labels, ignore_index=UNKNOWN, reduction="sum") / known
