"""What the bottlenecks declare, and what the named combinations change."""

from __future__ import annotations

from recbole_ib.model.settings import Declaration, Override, Search, Setting
from recbole_ib.utils.validate import AnyOf, Integer, Number, OneOf

_FIGURE_5 = "figure 5 of the IBMRec paper, alpha x sigma^2"
_FIGURE_6 = "figure 6 of the IBMRec paper, beta x sigma^2"
_SIGMA2 = (0.10, 0.15, 0.20, 0.25, 0.30)
_MRDIB_WEIGHTS = Search.choice(1.0e-4, 1.0e-3, 5.0e-3, 1.0e-2, 5.0e-2, source="MRdIB paper, arXiv 2509.20225")

FIB_SETTINGS: tuple[Declaration, ...] = (
    Setting(
        "fib_weight",
        1.0,
        "alpha, of HSIC(Z, M); 0 leaves the loss out and keeps L_2",
        Number(least=0),
        source="paper: Clothing 3, Sports 1, Baby 1",
        search=Search.loguniform(0.1, 5.0, source=_FIGURE_5),
        symbol=r"$\alpha$",
    ),
    Setting(
        "sigma2",
        0.15,
        "sigma^2 of the FIB kernel",
        Number(above=0),
        source="paper: .25, .20, .15",
        search=Search.choice(*_SIGMA2, source=_FIGURE_5),
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
        "GiB for the features' kernels, kept for the whole run where all n_items^2 numbers fit; 0: computed in every batch",
        Number(least=0),
    ),
)

GIB_SETTINGS: tuple[Declaration, ...] = (
    Setting(
        "gib_weight",
        0.5,
        "beta, of HSIC(Y', Y); 0 leaves the loss out and keeps the gate",
        Number(least=0),
        source="paper: Clothing 20, Sports .5, Baby .5",
        search=Search.loguniform(0.1, 20.0, source=_FIGURE_6),
        symbol=r"$\beta$",
    ),
    Setting(
        "gib_sigma2",
        0.15,
        "sigma^2 of the GIB kernel",
        Number(above=0),
        source="paper: .25, .25, .15",
        search=Search.choice(*_SIGMA2, source=_FIGURE_6),
        symbol=r"$\sigma^2$ of GIB",
    ),
    Setting("gate_hidden_size", 64, "hidden width of the edge gate", Integer(1)),
    Setting("gate_temperature", 0.2, "of the concrete distribution", Number(above=0)),
    Setting("gate_bias", 0.0, "no edge falls below it; 0.5 keeps the loss of a good graph small", Number(least=0, below=1)),
    Setting(
        "gate_start",
        0.5,
        "the keep-probability that edges start around; .9 loses less where all edges are good (docs/bottlenecks.md)",
        Number(above=0, below=1),
    ),
)

MRDIB_SETTINGS: tuple[Declaration, ...] = (
    Setting(
        "kl_weight",
        1.0e-3,
        "a_1, of KL(N(mu, sigma^2) || N(0, I)); 0: the latents are not drawn",
        Number(least=0),
        source="paper, MGCN: .005",
        search=_MRDIB_WEIGHTS,
        symbol="$a_1$",
    ),
    Setting(
        "redundancy_weight",
        1.0e-3,
        "a_2, of I(z_m; z_n); 0: no critic, and the only value for one modality",
        Number(least=0),
        source="paper, MGCN: .05",
        search=_MRDIB_WEIGHTS,
        symbol="$a_2$",
    ),
    Setting(
        "unique_weight",
        1.0e-3,
        "a_3, of the decoders' BPR; 0: no decoders",
        Number(least=0),
        source="paper, MGCN: .005",
        search=_MRDIB_WEIGHTS,
        symbol="$a_3$",
    ),
    Setting(
        "prior_scale",
        1.0,
        "s, the prior's standard deviation; initial: the root mean square of the backbone's own latents at the start",
        AnyOf(Number(above=0), OneOf("initial")),
    ),
    Setting("initial_noise", 0.1, "sigma at the start, as a part of the latents' own spread", Number(above=0)),
    Setting(
        "redundancy_estimator",
        "mine",
        "mine, a lower bound with a critic; club, an upper bound with a critic; hsic",
        OneOf("mine", "club", "hsic"),
        source="paper: mine",
    ),
    Setting("redundancy_sigma2", 1.0, "sigma^2 of the RBF kernel of hsic", Number(above=0)),
    Setting("critic_hidden_size", 64, "hidden width of the critics of mine and club", Integer(1)),
    Setting(
        "critic_rate",
        3.0,
        "the critics' learning rate as a multiple of learning_rate: a critic that lags sees nothing",
        Number(above=0),
    ),
    Setting("decoder_hidden_size", 64, "hidden width of the unique terms' decoders D_m", Integer(1)),
)

#: bottleneck -> what it declares
BOTTLENECK_SETTINGS: dict[str, tuple[Declaration, ...]] = {"fib": FIB_SETTINGS, "gib": GIB_SETTINGS, "mrdib": MRDIB_SETTINGS}

#: named combination -> what it changes of its backbone's and its bottlenecks' settings
COMBINATION_SETTINGS: dict[str, tuple[Declaration, ...]] = {
    "MRdIBMMGCN": (
        Override(
            "project_above", default=0, doc="every modality is projected: one that passes as it is has no latent to compress"
        ),
    ),
}

#: named combination -> the order in which a search draws its settings
COMBINATION_SEARCH_ORDER: dict[str, tuple[str, ...]] = {
    "IBMRec": (
        "fib_weight", "sigma2", "gib_weight", "gib_sigma2", "contrastive_temperature", "knn_k", "reg_weight", "learning_rate",
    ),
}  # fmt: skip
