"""What a reader of an influence result should know before trusting it."""

from __future__ import annotations

import numpy as np

from sidelight_engines.influence.parameters import InfluenceParameters, UnattainableTarget
from sidelight_engines.influence.result import Notice
from sidelight_engines.runtime.runtime import Array

_FEW_EXAMPLES = 30
_WHAT_HAPPENED = {
    UnattainableTarget.BOUNDARY: "they have the limit: all weight on the examples at that bound",
    UnattainableTarget.MISSING: "they are NaN",
    UnattainableTarget.ERROR: "the search could come no closer",
}


def notices(
    attained: Array, effective: Array, means: Array, targets: Array, parameters: InfluenceParameters
) -> tuple[Notice, ...]:
    """Says how many cells are to be read with care.

    Args:
        attained: (features, aims) bool.
        effective: (features, aims), effective sample sizes.
        means: (features,), of the data.
        targets: (features, aims).
        parameters: what was asked for.
    """
    found = []
    missed = int((~attained).sum())
    if missed:
        why = (
            "ethik's search ended elsewhere"
            if parameters.ethik_compatible
            else f"they lie at or beyond a bound of the feature; {_WHAT_HAPPENED[parameters.unattainable]}"
        )
        found.append(Notice("TARGETS_NOT_ATTAINED", f"{missed} of {attained.size} targets were not reached: {why}"))
    few = int((effective < _FEW_EXAMPLES).sum())
    if few:
        found.append(
            Notice(
                "FEW_EFFECTIVE_EXAMPLES",
                f"{few} of {effective.size} tilts rest on fewer than {_FEW_EXAMPLES} effective examples; their numbers "
                "and standard errors say little",
            )
        )
    if parameters.targets is None:
        taus = np.asarray(parameters.aims) != 0
        still = int((targets[:, taus] == means[:, None]).sum())
        if still:
            found.append(
                Notice(
                    "TARGETS_AT_MEAN",
                    f"{still} of {targets.size} targets are the mean itself, because the feature is constant or its "
                    "quantile lies on the other side of the mean; nothing moves there",
                )
            )
    return tuple(found)
