"""The result of `Client.influence`."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.provenance import Picture, Provenance

FloatArray = NDArray[np.float64]

_NOT_NUMBERS = ("provenance", "pictures")


@dataclass(frozen=True, eq=False)
class InfluenceExplanation:
    """How predictions, or metrics of them, change when the mean of a feature moves.

    Axes are, in this order: features, taus (or targets), then labels, metrics, or groups and metrics. A label is a
    column of the predictions; predictions of one number each have one label.

    Attributes:
        features: the features, as flat positions in an example.
        feature_names: of these features; empty if none were given.
        example_shape: of one example.
        taus: the taus in the order asked for; with `absolute_targets` the targets.
        absolute_targets: whether `taus` are targets in the feature's unit.
        feature_means: (features,), the mean of each in the data as they are.
        targets: (features, taus), the mean that was aimed at.
        influences: (features, taus, labels), the mean prediction under each tilt.
        standard_errors: like `influences`; NaN where fewer than 2 examples count.
        confidence_low: like `influences`; None unless asked for.
        confidence_high: like `influences`; None unless asked for.
        slopes: (features, labels), d(mean prediction)/d(feature mean) at the data as they are.
        metrics: the metrics, by word, such as ``"log-loss"``.
        performances: (features, taus, metrics); None without metrics.
        performance_errors: like `performances`, standard errors; NaN where fewer than 2 examples count. None without
            metrics, and from servers that do not send them.
        groups: (groups,), ascending; None without groups.
        group_performances: (features, taus, groups, metrics); None without groups.
        group_performance_errors: like `group_performances`, standard errors; NaN where fewer than 2 examples of the
            group count. None without groups, and from servers that do not send them.
        attained: (features, taus), whether each mean reached its target.
        attained_means: (features, taus), the mean of the feature under the tilt.
        effective_sample_sizes: (features, taus), how many examples count: 1 / sum of squared weights.
        baseline_predictions: (labels,), the mean prediction of the data as they are.
        baseline_performances: (metrics,), of the data as they are; None without metrics.
        provenance: what was explained, by what, at what cost; the model is empty if none was named.
        pictures: if asked for.
    """

    features: NDArray[np.int64]
    feature_names: tuple[str, ...]
    example_shape: tuple[int, ...]
    taus: FloatArray
    absolute_targets: bool
    feature_means: FloatArray
    targets: FloatArray
    influences: FloatArray
    standard_errors: FloatArray
    confidence_low: FloatArray | None
    confidence_high: FloatArray | None
    slopes: FloatArray
    metrics: tuple[str, ...]
    performances: FloatArray | None
    performance_errors: FloatArray | None
    groups: NDArray[np.int64] | None
    group_performances: FloatArray | None
    group_performance_errors: FloatArray | None
    attained: NDArray[np.bool_]
    attained_means: FloatArray
    effective_sample_sizes: FloatArray
    baseline_predictions: FloatArray
    baseline_performances: FloatArray | None
    provenance: Provenance
    pictures: tuple[Picture, ...] = ()

    @property
    def differences(self) -> FloatArray:
        """(features, labels): the mean prediction at the greatest tau less that at the least.

        For images, reshaped by `image`, this is the picture of what a label is recognised by. With a single tau: less
        the mean prediction of the data as they are.
        """
        least, most = int(self.taus.argmin()), int(self.taus.argmax())
        if least == most:
            return np.asarray(self.influences[:, most] - self.baseline_predictions)
        return np.asarray(self.influences[:, most] - self.influences[:, least])

    def image(self, values: NDArray[Any]) -> FloatArray:
        """Puts a number per feature in the place of the feature in an example.

        Args:
            values: (features, ...), such as `differences`.

        Returns:
            (*example_shape, ...); NaN for features that were not asked for.
        """
        flat = np.full((int(np.prod(self.example_shape)), *values.shape[1:]), np.nan)
        flat[self.features] = values
        return flat.reshape(*self.example_shape, *values.shape[1:])

    def ranking(self) -> NDArray[np.int64]:
        """Places of the features by their greatest difference of any label, greatest first, equal ones in order."""
        return np.argsort(-np.nan_to_num(np.abs(self.differences)).max(axis=1), kind="stable")

    def feature_name(self, place: int) -> str:
        """The name of a feature by its place in `features`; its flat position if none was given."""
        return self.feature_names[place] if self.feature_names else str(int(self.features[place]))

    def __repr__(self) -> str:
        explained = f"{self.provenance.model}:{self.provenance.version}" if self.provenance.model else "predictions"
        features, taus, labels = self.influences.shape
        what = "targets" if self.absolute_targets else "taus"
        return f"<InfluenceExplanation of {explained}, {features} features x {taus} {what} x {labels} labels>"

    def as_dict(self) -> dict[str, Any]:
        """Everything but the pictures as plain numbers, lists and text, fit for JSON; NaN becomes None."""
        plain: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in _NOT_NUMBERS:
                plain[field.name] = _without_nan(value) if isinstance(value, np.ndarray) else value
        plain["provenance"] = dataclasses.asdict(self.provenance)
        return plain

    def to_npz(self, path: str | Path) -> None:
        """Writes everything but the pictures to a NumPy archive that loads without pickle.

        Arrays have the names and axes of the attributes; what was not asked for is left out; `provenance` is JSON
        text.
        """
        columns: dict[str, Any] = {
            field.name: np.array(getattr(self, field.name))
            for field in dataclasses.fields(self)
            if field.name not in _NOT_NUMBERS and getattr(self, field.name) is not None
        }
        columns["provenance"] = np.array(json.dumps(dataclasses.asdict(self.provenance)))
        # Through an open file, because numpy would add ".npz" to a path that lacks it.
        with Path(path).open("wb") as file:
            np.savez_compressed(file, **columns)

    def to_csv(self, path: str | Path) -> None:
        """Writes a table: a line for each feature, tau and label, with the metrics at its end.

        After the metrics come their standard errors, as ``accuracy_error``. NaN is left empty.
        """
        with Path(path).open("w", newline="", encoding="utf-8") as file:
            lines = csv.writer(file, lineterminator="\n")
            metrics = [metric.replace("-", "_") for metric in self.metrics]
            lines.writerow(
                [
                    *("feature", "name", "target" if self.absolute_targets else "tau", "target_mean", "attained_mean"),
                    *("attained", "effective_sample_size", "label", "influence", "standard_error"),
                    *(() if self.confidence_low is None else ("confidence_low", "confidence_high")),
                    *metrics,
                    *(() if self.performance_errors is None else (f"{metric}_error" for metric in metrics)),
                ]
            )
            lines.writerows(self._lines())

    def _lines(self) -> Iterator[list[Any]]:
        by_label = [self.influences, self.standard_errors]
        if self.confidence_low is not None and self.confidence_high is not None:
            by_label += [self.confidence_low, self.confidence_high]
        for place, tau, label in np.ndindex(self.influences.shape):
            cell = (place, tau)
            numbers = [self.targets[cell], self.attained_means[cell]]
            measured = [column[place, tau, label] for column in by_label]
            metrics = [
                number
                for column in (self.performances, self.performance_errors)
                if column is not None
                for number in column[cell].tolist()
            ]
            yield [
                int(self.features[place]),
                self.feature_name(place),
                repr(float(self.taus[tau])),
                *map(_cell, numbers),
                int(self.attained[cell]),
                _cell(self.effective_sample_sizes[cell]),
                label,
                *map(_cell, (*measured, *metrics)),
            ]


def _cell(number: Any) -> str:
    return "" if np.isnan(number) else repr(float(number))


def _without_nan(array: NDArray[Any]) -> Any:
    """Nested lists of an array; JSON has no NaN."""
    if array.dtype.kind != "f" or not np.isnan(array).any():
        return array.tolist()
    return np.where(np.isnan(array), None, array.astype(object)).tolist()  # type: ignore[call-overload]
