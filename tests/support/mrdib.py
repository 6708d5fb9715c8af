"""MRdIB's weights at zero, and its module of a model."""

OFF = {"kl_weight": 0.0, "redundancy_weight": 0.0, "unique_weight": 0.0}


def bottleneck(model):
    return model.ib["mrdib"]
