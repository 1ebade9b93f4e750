"""What makes a picture fit for a paper, of its structure and not of its pixels."""

import itertools

import numpy as np
from matplotlib.path import Path
from matplotlib.transforms import Bbox


def require_fit(figure):
    """Everything is named and told apart, no words lie on one another or are cut, no legend lies on data."""
    figure.draw_without_rendering()
    texts = list(_texts(figure))
    # a pixel for what rounding to pixels moves
    paper = figure.bbox.padded(1)
    for text, box in texts:
        assert paper.contains(*box.p0) and paper.contains(*box.p1), f"{text!r} is cut"
    for (one, first), (other, second) in itertools.combinations(texts, 2):
        assert not first.padded(-1).overlaps(second.padded(-1)), f"{one!r} lies on {other!r}"
    for ax in figure.axes:
        assert ax.get_ylabel() or any(_beside(ax, other) for other in figure.axes), "an ordinate has no name"
        unmarked = not len(ax.get_xticks())  # as that of a colour bar
        assert unmarked or ax.get_xlabel() or any(_below(ax, other) for other in figure.axes), (
            "an abscissa has no name"
        )
        looks = [_look(line) for line in ax.lines if not line.get_label().startswith("_")]
        assert len(set(looks)) == len(looks), f"two curves look alike: {looks}"
        for legend in legends_of(figure):
            _require_off(ax, legend.get_window_extent())


def legends_of(figure):
    return [*figure.legends, *(ax.get_legend() for ax in figure.axes if ax.get_legend())]


def kinds(axes):
    return {(ax.get_xscale(), ax.get_yscale()) for ax in axes}


def _texts(figure):
    """All words that are drawn, with their boxes."""
    held = [figure._suptitle] if figure._suptitle else []
    for legend in legends_of(figure):
        held += [*legend.get_texts(), legend.get_title()]
    for ax in figure.axes:
        held += [ax.title, ax.xaxis.label, ax.yaxis.label, *ax.texts]
        box = ax.get_window_extent().padded(1)
        for axis, along in ((ax.xaxis, 0), (ax.yaxis, 1)):
            ticks = [tick.label1 for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())]
            for text in ticks:  # those beyond the limits are not drawn
                place = text.get_transform().transform(text.get_position())[along]
                held += [text] if box.intervalx[0] <= place <= box.intervalx[1] and not along else []
                held += [text] if box.intervaly[0] <= place <= box.intervaly[1] and along else []
    for text in held:
        if text.get_visible() and text.get_text().strip():
            yield text.get_text(), text.get_window_extent()


def _require_off(ax, box):
    inside = Bbox.intersection(ax.get_window_extent(), box)
    if inside is None or min(inside.width, inside.height) < 1:
        return
    for line in ax.lines:
        points = line.get_transform().transform(np.column_stack(line.get_data(orig=False)))
        points = points[np.isfinite(points).all(axis=1)]
        assert not (len(points) and Path(points).intersects_bbox(inside, filled=False)), (
            f"a legend lies on {line.get_label()!r}"
        )


def _look(line):
    return line.get_color(), line.get_linestyle(), line.get_linewidth(), line.get_marker()


def _beside(ax, other):
    """Whether another of the same row, to the left, names the ordinate."""
    a, b = ax.get_position(), other.get_position()
    return bool(other.get_ylabel()) and abs(a.y0 - b.y0) < 0.01 and b.x0 < a.x0


def _below(ax, other):
    a, b = ax.get_position(), other.get_position()
    return bool(other.get_xlabel()) and abs(a.x0 - b.x0) < 0.01 and b.y0 < a.y0
