"""Options that select examples of a reference set, for every command that takes one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sidelight_service.cli.terminal import USAGE, fail

if TYPE_CHECKING:
    from sidelight import ReferenceSelection

IndicesOption = Annotated[
    str | None, typer.Option("--indices", metavar="I,J,...", help="Of --reference: these positions, from 0.")
]
ClassesOption = Annotated[
    str | None, typer.Option("--classes", metavar="C,D,...", help="Of --reference: examples of these classes.")
]
ByPredictionOption = Annotated[
    bool, typer.Option("--by-prediction", help="--classes are those that the model predicts, not the labels.")
]
SampleOption = Annotated[
    int | None, typer.Option("--sample", min=1, help="Of what is left of --reference: so many, drawn at random.")
]
SampleSeedOption = Annotated[int | None, typer.Option("--sample-seed", min=0, help="Of that draw. Default: 0.")]


def selection(
    reference: str | None,
    indices: str | None = None,
    classes: str | None = None,
    sample: int | None = None,
    sample_seed: int | None = None,
    *,
    by_prediction: bool = False,
) -> ReferenceSelection | None:
    """What these options select; None without --reference."""
    if reference is None:
        given = {"--indices": indices, "--classes": classes, "--sample": sample, "--sample-seed": sample_seed}
        for option, value in given.items():
            if value is not None:
                fail(f"{option} selects of a reference set; give --reference NAME", status=USAGE)
        return None
    if by_prediction and classes is None:
        fail("--by-prediction says which classes --classes means; give --classes", status=USAGE)
    from sidelight import ReferenceSelection

    return ReferenceSelection(
        reference,
        indices=_numbers("--indices", indices),
        classes=_numbers("--classes", classes),
        by_prediction=by_prediction,
        sample=sample,
        sample_seed=sample_seed,
    )


def _numbers(option: str, text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        fail(f"{option}: {text!r} is no list of whole numbers; write them with commas between", status=USAGE)
