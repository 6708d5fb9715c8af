"""Short trainings, and what they leave."""

from __future__ import annotations

import torch
from recbole.data.interaction import Interaction
from recbole.utils import get_trainer, init_seed

from recbole_ib.training.trainer import MultimodalTrainer

#: stages before the training proper, kept short
STAGES = {
    "InvRL": {
        "pretrain_epochs": 1,
        "invrl_rounds": 1,
        "n_environments": 2,
        "environment_epochs": 1,
        "environment_repeats": 1,
        "mask_epochs": 1,
    }
}


def first_batch(train):
    init_seed(3, True)
    return next(iter(train))


def named(losses):
    """Loss terms by name."""
    return dict(zip(losses.names, losses, strict=True))


def computed(monkeypatch, model):
    """From now on every :class:`recbole_ib.model.types.Batch` that the losses of a model are computed from, in order."""
    batches, losses = [], model.ranking_losses
    monkeypatch.setattr(model, "ranking_losses", lambda batch: batches.append(batch) or losses(batch))
    return batches


def fit(config, model, train, valid):
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    trainer.fit(train, valid, verbose=False, saved=False)
    return trainer


def run(build, name, epochs, resume=None, **settings):
    """The trainer, the test's result and the weights of a training, continued from the checkpoint ``resume`` if one is given."""
    config, model, train, valid, test = build(name, epochs=epochs, **settings)
    trainer = MultimodalTrainer(config, model)
    if resume:
        trainer.resume_checkpoint(resume)
    trainer.fit(train, valid, verbose=False)
    result = trainer.evaluate(test)
    return trainer, result, {k: v.clone() for k, v in model.state_dict().items()}


def scores_of(model, config, users):
    model.eval()
    with torch.no_grad():
        return model.full_sort_predict(Interaction({config["USER_ID_FIELD"]: users})).view(len(users), -1)
