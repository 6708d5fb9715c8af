"""What ablations and plots need of each bottleneck: its loss terms and the titles of its measurements."""

from __future__ import annotations

#: bottleneck -> {loss term: the settings that switch it off}
TERMS: dict[str, dict[str, dict[str, float]]] = {
    "mrdib": {"KL": {"kl_weight": 0.0}, "redundancy": {"redundancy_weight": 0.0}, "unique": {"unique_weight": 0.0}},
}

#: bottleneck -> {prefix of its diagnostics: (title, unit) in plots}
LABELS: dict[str, dict[str, tuple[str, str]]] = {
    "gib": {
        "gate": ("Gates of the item graph", "mean gate; share of edges"),
        "gate/entropy": ("Entropy of the gates", "nats an edge"),
    },
    "mrdib": {
        "kl": ("KL of the stochastic latents", "nats an item"),
        "noise": ("Noise of the stochastic latents", "mean sigma"),
        "redundancy": ("Redundancy, by the model's own estimator", "nats (hsic: HSIC)"),
    },
}
