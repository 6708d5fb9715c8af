"""Loss terms by name, and the name that a backbone with a bottleneck has."""

from recbole_ib.config.config import Config


def named(losses):
    return dict(zip(losses.names, losses, strict=True))


def resolved(backbone, bottleneck):
    return Config(backbone, "ml-100k", config_dict={"bottleneck": bottleneck})["model"]
