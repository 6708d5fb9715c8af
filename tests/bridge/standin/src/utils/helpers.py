"""Shared by the stand-in's models."""

from torch.nn import functional as F


def bpr(user, positive, negative):
    return F.softplus((user * (negative - positive)).sum(dim=1)).mean()
