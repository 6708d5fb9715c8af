"""Charts in the tests that do not look at them."""

import io

from matplotlib.figure import Figure


def small_png(figure: Figure, foot: str = "") -> bytes:
    """In place of ``html.png_bytes``: everything is drawn, but once, without a layout, and into few pixels."""
    if not hasattr(figure, "_small_png"):
        file = io.BytesIO()
        figure.set_layout_engine("none")
        figure.savefig(file, format="png", dpi=10)
        figure._small_png = file.getvalue()
    return figure._small_png


def save_small(figure: Figure, *args, save=Figure.savefig, **kwargs) -> None:
    """In place of ``Figure.savefig``: into few pixels."""
    save(figure, *args, **{**kwargs, "dpi": 10})
