"""What MRdIB declares: settings, terms, labels, and why other bottlenecks do not go with it."""

from __future__ import annotations

from recbole_ib.model.layers.gaussian_latents import NOISE_INPUTS
from recbole_ib.model.settings import Search, Setting
from recbole_ib.model.shared_settings import (
    CONTRAST_PAIRS,
    DEVELOPMENT,
    HSIC_ITEMS,
    KERNEL_MEMORY,
    NONE_OR_COLLABORATIVE,
)
from recbole_ib.utils.validate import AnyOf, Integer, Number, OneOf

WHY_ALONE = (
    "fib and gib go together, mrdib stands alone (fib and mrdib both shape the item latents, and the papers' "
    "training steps differ)"
)

AROUND = "around the default; the paper's grid, 1e-4 to .05, is of KL and of one sampled negative"

SETTINGS = (
    Setting(
        "kl_weight",
        0.03,
        "a_1, of the rate I(z_m; x_m), see rate_estimator; 0 leaves it out",
        Number(least=0),
        source=f"{DEVELOPMENT}; paper, of KL, MGCN: .005",
        search=Search.loguniform(0.005, 0.5, source=AROUND),
        symbol="$a_1$",
    ),
    Setting(
        "redundancy_weight",
        0.0,
        "a_2, of I(z_m; z_n); 0: no critic, and the only value for one modality",
        Number(least=0),
        source="on planted data it takes what modalities rightly share, results/planted.md; paper, MGCN: .05",
        search=Search.choice(0.0, 1.0e-3, 1.0e-2, 0.1, source=AROUND),
        symbol="$a_2$",
    ),
    Setting(
        "unique_weight",
        0.1,
        "a_3, of -log p(y | z_m), see unique_likelihood; 0: no decoders",
        Number(least=0),
        source=f"{DEVELOPMENT}; paper, MGCN: .005",
        search=Search.loguniform(0.01, 1.0, source=AROUND),
        symbol="$a_3$",
    ),
    Setting(
        "unique_likelihood",
        "softmax",
        "of p(y | z_m): bpr, against a sampled item; softmax, of cosines over the batch's unknown items",
        OneOf("bpr", "softmax"),
        source=f"{DEVELOPMENT}; paper: not said",
    ),
    Setting("unique_temperature", 0.2, "of unique_likelihood: softmax", Number(above=0)),
    Setting(
        "rate_estimator",
        "hsic",
        "of the rate I(z_m; x_m) that a_1 prices: kl, of draws to the prior; hsic, normalized, of the means",
        OneOf("kl", "hsic"),
        source=f"{DEVELOPMENT}; paper: kl",
    ),
    Setting(
        "kl_reduction",
        "mean",
        "of KL over the d numbers of a latent: sum, or mean, which does not grow with d",
        OneOf("sum", "mean"),
        source="paper: not said",
    ),
    Setting("kl_warmup", 0, "batches in which a_1 grows from 0 to kl_weight", Integer(0)),
    Setting(
        "free_bits",
        0.0,
        "nats of every number of a latent, in the mean of a batch, that KL does not price",
        Number(least=0),
    ),
    Setting(
        "noise_input",
        "latent",
        "what the head of sigma reads: the features, or the latent's mean, which costs next to nothing",
        OneOf(*NOISE_INPUTS),
    ),
    Setting(
        "redundancy_condition",
        "none",
        "collaborative: I of what the item's id row does not explain: what modalities rightly share is kept",
        NONE_OR_COLLABORATIVE,
        source="paper: none",
    ),
    Setting(
        "prior_scale",
        "initial",
        "s, the prior's standard deviation; initial: the root mean square of the backbone's own latents at "
        "the start",
        AnyOf(Number(above=0), OneOf("initial")),
    ),
    Setting(
        "initial_noise", 0.1, "sigma at the start, as a part of the latents' own spread", Number(above=0)
    ),
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
    HSIC_ITEMS,
    CONTRAST_PAIRS,
    KERNEL_MEMORY,
    Setting("decoder_hidden_size", 64, "hidden width of the unique terms' decoders D_m", Integer(1)),
)

#: loss term -> the settings that switch it off
TERMS = {
    "rate": {"kl_weight": 0.0},
    "redundancy": {"redundancy_weight": 0.0},
    "unique": {"unique_weight": 0.0},
}
#: prefix of its diagnostics -> (title, unit) in plots
LABELS = {
    "kl": ("KL of the stochastic latents", "nats an item"),
    "noise": ("Noise of the stochastic latents", "mean sigma"),
    "redundancy": ("Redundancy, by the model's own estimator", "nats (hsic: HSIC)"),
}
