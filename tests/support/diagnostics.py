"""Short runs that are measured, and naive forms of the measures."""

import math

import numpy as np
from recbole.utils import get_trainer

from recbole_ib.training.diagnostics import (
    Diagnostics,
    Settings,
    diagnostics_path,
    read_diagnostics,
)


def run(build, name, epochs, resume=None, saved=True, **changes):
    config, model, train, valid, test = build(name, epochs=epochs, **changes)
    trainer = get_trainer(config["MODEL_TYPE"], name)(config, model)
    if resume:
        trainer.resume_checkpoint(resume)
    trainer.fit(train, valid, verbose=False, saved=saved)
    return trainer, trainer.evaluate(test, load_best_model=saved)


def measured(trainer):
    """epoch -> name -> value; a name that stands twice is an error."""
    found = {}
    for record in read_diagnostics(diagnostics_path(trainer.saved_model_file)):
        assert record.name not in found.setdefault(record.epoch, {})
        found[record.epoch][record.name] = record.value
    return found


def looker(model, train, items=40, users=20):
    return Diagnostics(model, train, Settings(items, users))


def naive_kernel(x):
    x = x.double().numpy()
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    n = len(x)
    square = [[((x[i] - x[j]) ** 2).sum() for j in range(n)] for i in range(n)]
    pairs = sorted(square[i][j] for i in range(n) for j in range(n) if i != j)
    median = pairs[(len(pairs) - 1) // 2]
    return np.array([[math.exp(-d / (2 * median)) for d in row] for row in square])


def naive_hsic(a, b):
    n = len(a)
    h = np.eye(n) - 1 / n
    return np.trace(a @ h @ b @ h) / (n - 1) ** 2
