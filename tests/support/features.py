"""Items and refusals that the tests of features share."""

import numpy as np

from recbole_ib.data.features import load_modality

ITEMS = ["[PAD]", "a", "b", "c", "d"]
TWO = np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32)


def refusal(spec, items=ITEMS, **options) -> str:
    """The one error of a modality that must be refused."""
    modality, report = load_modality(spec, items, **options)
    assert modality is None
    assert len(report.errors) == 1, report.errors
    return report.errors[0]
