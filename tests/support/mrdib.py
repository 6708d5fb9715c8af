"""MRdIB's weights at zero, the terms of its paper's equations, and its module of a model."""

OFF = {"kl_weight": 0.0, "redundancy_weight": 0.0, "unique_weight": 0.0}

#: all three terms as the paper prints them (arXiv 2509.20225): the defaults are others
PAPER_MRDIB = {
    "rate_estimator": "kl",
    "kl_reduction": "sum",
    "kl_weight": 1e-3,
    "redundancy_weight": 1e-3,
    "unique_likelihood": "bpr",
    "unique_weight": 1e-3,
    "noise_input": "features",
    "prior_scale": 1.0,
    "hsic_items": 0,
}


def bottleneck(model):
    return model.ib["mrdib"]
