"""Loss terms by name, the name that a backbone with a bottleneck has, and the settings of the papers' equations."""

from recbole_ib.config.config import Config

#: the equations of IBMRec's paper (arXiv 2501.12175), of Baby: the defaults are others
PAPER_FIB = {"fib_estimator": "biased", "sigma2": 0.15, "fib_weight": 1.0, "contrastive_negatives": "batch"}
PAPER_GIB = {"gate_self_loops": True, "gate_bias": 0.0}
PAPER_IBMREC = {**PAPER_FIB, **PAPER_GIB, "hsic_items": 0}


def named(losses):
    return dict(zip(losses.names, losses, strict=True))


def resolved(backbone, bottleneck):
    return Config(backbone, "ml-100k", config_dict={"bottleneck": bottleneck})["model"]


def with_settings(build, settings):
    """The fixture ``build`` with settings under those of every call."""
    return lambda name, **own: build(name, **{**settings, **own})
