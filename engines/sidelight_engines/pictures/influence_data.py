"""What the pictures of influence draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_IMAGE_AXES = (2, 3)
_SMALLEST_SIDE = 3


@dataclass(frozen=True, eq=False)
class InfluenceDrawing:
    """What the pictures of influence draw.

    Attributes:
        model: what is explained, for titles; may be empty.
        features: (features,), flat positions in an example.
        feature_names: of these features; empty for positions.
        example_shape: of one example.
        aims: (aims,), the taus or targets.
        absolute_targets: whether `aims` are targets.
        influences: (features, aims, labels).
        standard_errors: like `influences`; NaN for unknown.
        low: lower ends of bands, like `influences`; None to draw one standard error.
        high: upper ends.
        attained: (features, aims) bool.
        baseline: (labels,), the mean prediction of the data as they are.
        metric_names: of the metrics.
        performances: (features, aims, metrics).
        label_names: of the labels; empty for positions.
    """

    model: str
    features: NDArray[np.int64]
    feature_names: Sequence[str]
    example_shape: tuple[int, ...]
    aims: Sequence[float]
    absolute_targets: bool
    influences: Floats
    standard_errors: Floats
    low: Floats | None
    high: Floats | None
    attained: NDArray[np.bool_]
    baseline: Floats
    metric_names: Sequence[str]
    performances: Floats
    label_names: Sequence[str] = ()

    @property
    def is_image(self) -> bool:
        """Whether an example is an image, and there are two tilts to compare."""
        sides = sorted(self.example_shape)[-2:]
        return len(self.example_shape) in _IMAGE_AXES and min(sides) >= _SMALLEST_SIDE and len(self.aims) > 1

    @property
    def ends(self) -> tuple[int, int]:
        """The positions of the least and the greatest of `aims`."""
        return int(np.argmin(self.aims)), int(np.argmax(self.aims))

    @property
    def differences(self) -> Floats:
        """(features, labels): the mean prediction at the greatest of `aims` less that at the least.

        With a single one: less the mean prediction of the data as they are.
        """
        least, most = self.ends
        if least == most:
            return np.asarray(self.influences[:, most] - self.baseline)
        return np.asarray(self.influences[:, most] - self.influences[:, least])

    @property
    def aim_word(self) -> str:
        """What `aims` are."""
        return "target" if self.absolute_targets else "tau"

    @property
    def compared(self) -> str:
        """What `differences` compares, in words."""
        least, most = self.ends
        if least == most:
            return f"{self.aim_word} {self.aims[most]:g} less the data as they are"
        return f"{self.aim_word} {self.aims[most]:g} less {self.aim_word} {self.aims[least]:g}"

    def titled(self, what: str) -> str:
        """A title that names the model, if there is one."""
        return f"{what} of {self.model}" if self.model else what

    def feature_name(self, place: int) -> str:
        """The name of a feature by its place in `features`; for pixels row and column."""
        if self.feature_names:
            return self.feature_names[place]
        position = int(self.features[place])
        if len(self.example_shape) in _IMAGE_AXES:
            indices = np.unravel_index(position, self.example_shape)
            # A single channel need not be named.
            shown = [int(i) for i, length in zip(indices, self.example_shape, strict=True) if length > 1]
            return f"pixel {', '.join(map(str, shown))}"
        return f"feature {position}"

    def label_name(self, label: int) -> str:
        """The name of a label."""
        return self.label_names[label] if self.label_names else f"label {label}"

    def ranking(self) -> NDArray[np.int64]:
        """Places of the features by their greatest difference of any label, greatest first, equal ones in order."""
        greatest = np.nan_to_num(np.abs(self.differences)).max(axis=1)
        return np.argsort(-greatest, kind="stable")


def split_channels(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The axes of an image: which are rows, columns and channels.

    Args:
        shape: (rows, columns), (rows, columns, channels) or (channels, rows, columns).

    Returns:
        The axis of rows, of columns and of channels; the last is -1 where there are none.
    """
    if len(shape) == _IMAGE_AXES[0]:
        return 0, 1, -1
    channels_first = shape[0] < min(shape[1:]) and shape[0] < shape[2]
    return (1, 2, 0) if channels_first else (0, 1, 2)
