"""Is relevance conserved, and if not, where does it go?

The measurement that a user of iNNvestigate published as "LRP alpha beta is not conservative", asked of a Sidelight
server: by several rules, how far the relevance of all pixels together misses the logit that it explains, and the
ledger's account of it.

    python examples/conserved_relevance.py --images mnist --divisor 255 --model digits --out results
"""

from __future__ import annotations

from typing import Any

import images
import numpy as np
import sidelight

Z = {"rule": "epsilon", "epsilon": 0}
EPSILON_1 = {"rule": "epsilon", "epsilon": 1}
ALPHA_BETA = {"rule": "alpha-beta", "alpha": 2, "beta": 1}
NO_BIAS = {"ignore_bias": True}
RULES: dict[str, dict[str, Any]] = {
    "z, no bias": {"rules": Z | NO_BIAS},
    "epsilon 1, no bias": {"rules": EPSILON_1 | NO_BIAS},
    "alpha 2 beta 1, no bias": {"rules": ALPHA_BETA | NO_BIAS},
    "alpha 2 beta 1": {"rules": ALPHA_BETA},
    # What meets no contribution of its sign goes to the other branch instead of getting lost.
    "alpha 2 beta 1, renormalised": {"rules": ALPHA_BETA, "empty_branch": "renormalise"},
    "deep Taylor bounded": {"preset": "deep-taylor-bounded"},
}
SHARES = ("bias", "stabiliser", "empty_branch", "sink")


def main(arguments: list[str] | None = None) -> None:
    """Explains by each rule and writes what came out."""
    parser = images.parser(__doc__)
    parser.add_argument("--model", required=True, help="a model of the server")
    parser.add_argument("--instances", type=int, default=16)
    given = parser.parse_args(arguments)
    x, _ = images.read(given.images, given.divisor)
    low, high = float(x.min()), float(x.max())
    print(f"{'':30}{'error':>9}", *(f"{name:>12}" for name in SHARES), f"{'open':>12}")
    with sidelight.connect(given.server) as client:
        x = images.fitted(x[: given.instances], client.model(given.model))
        for name, options in RULES.items():
            if "preset" in options:
                options = options | {"input_range": (low, high)}
            found = client.lrp(given.model, x, picture="png", picture_instances=len(x), **options)
            folder = given.out / name.replace(", ", "-").replace(" ", "-")
            images.save(found.pictures, folder)
            found.to_npz(folder / "relevance.npz")
            missed = (found.relevance_in - found.relevance_out) / found.relevance_out
            worst = np.unravel_index(np.abs(missed).argmax(), missed.shape)
            assert found.total is not None
            went = (getattr(found.total, share)[worst] / found.relevance_out[worst] for share in SHARES)
            residual = found.ledger_residual.max()
            print(f"{name:30}{abs(missed[worst]):9.2g}", *(f"{share:12.1%}" for share in went), f"{residual:12.0e}")
    print(f"\nError: the largest |sum of relevance - logit| / |logit| of {len(x)} images. Behind it, as shares of the")
    print(
        "logit, where the relevance of that image went (below 0: was added), and the most that the ledger leaves open."
    )
    print(f"Heatmaps and ledgers by layer: {given.out}")


if __name__ == "__main__":
    main()
