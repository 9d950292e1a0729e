"""The demonstration from its first step to its last."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sidelight_service.demo.activation_pattern import explain_activation_patterns
from sidelight_service.demo.digits import Digits, prepare_models
from sidelight_service.demo.influence import explain_influence
from sidelight_service.demo.linearity import explain_linearity
from sidelight_service.demo.lrp import explain_relevance
from sidelight_service.demo.report import write_report
from sidelight_service.demo.server import running_server
from sidelight_service.demo.similarity import explain_similarity
from sidelight_service.demo.stage import ONNX, REFERENCE, DemoFailed, Stage, heading, say

if TYPE_CHECKING:
    from sidelight import Client

# One per family of explanations, in the order shown, and the report of all of them.
STEPS: tuple[Callable[[Stage], None], ...] = (
    explain_linearity,
    explain_similarity,
    explain_relevance,
    explain_activation_patterns,
    explain_influence,
    write_report,
)
_INSTANCES = 100


def run_demo(directory: Path, *, keep: bool) -> None:
    """Trains, exports, serves and explains; says what it does.

    Args:
        directory: where models, inputs and results go; made if need be.
        keep: whether to leave the server running at the end, until Ctrl-C.

    Raises:
        DemoFailed: a step could not be done, or showed something other than it should.
    """
    import numpy as np
    import sidelight

    started = time.monotonic()
    repository = directory / "models"
    try:
        repository.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DemoFailed(f"{directory} can not be made: {error.strerror}; give another --directory") from error
    digits = prepare_models(repository, directory / "training.log")
    images, labels = digits.test_images[:_INSTANCES], digits.test_labels[:_INSTANCES]
    inputs = directory / "digits.npy"
    np.save(inputs, images)
    np.save(directory / "labels.npy", labels)
    data = directory / "data"
    # Of an earlier run, whose digits may have been others.
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir()
    with running_server(repository, data, directory / "server.log") as address:
        try:
            with sidelight.connect(address) as client:
                _keep_references(client, digits)
                for step in STEPS:
                    step(Stage(directory, client, images, labels))
        except sidelight.SidelightError as error:
            raise DemoFailed(f"the server refused: {error}") from error
        heading(f"Done in {time.monotonic() - started:.0f} s")
        if keep:
            _say_how_to_go_on(inputs, directory, f"--server {address} ")
            say("The server runs until Ctrl-C.")
            _wait_for_interrupt()
    if not keep:
        say("The server is stopped. To go on by hand:")
        say(f"sidelight serve --models {repository} --data {data} &")
        _say_how_to_go_on(inputs, directory, "")


def _keep_references(client: Client, digits: Digits) -> None:
    heading("Giving the server the training digits, for explanations to refer to")
    made = client.create_reference(REFERENCE, digits.train_images, digits.train_labels, model=ONNX, timeout=60)
    say(f"reference set {made.name}: {made.count:,} digits, {made.digest}")


def _say_how_to_go_on(inputs: Path, directory: Path, server: str) -> None:
    say(f"sidelight models show {ONNX} {server}".rstrip())
    say(
        f"sidelight explain linearity {server}--model {ONNX} --input {inputs} --feature-range 0,1 --layers all "
        f"--confidence 0.95 --plot {directory / 'again.png'}"
    )
    say(
        f"sidelight explain similarity {server}--model {ONNX} --reference {REFERENCE} --input {inputs} "
        f"--labels {directory / 'labels.npy'} --top 3"
    )
    say(
        f"sidelight explain activation-pattern {server}--model {ONNX} --reference {REFERENCE} --layers conv_1,relu_3 "
        f"--plot {directory / 'patterns.png'}"
    )
    say(
        f"sidelight explain influence {server}--model {ONNX} --reference {REFERENCE} --taus 41 "
        f"--plot-curves {directory / 'curves.png'}"
    )
    say(
        f"sidelight explain lrp {server}--model {ONNX} --input {inputs} --preset EpsilonPlusFlat --target 3,5 "
        f"--plot {directory / 'heat.png'} --plot-ledger {directory / 'ledger.png'}"
    )
    say(f"sidelight report {server}--model {ONNX} --reference {REFERENCE} --out {directory / 'again.html'}")


def _wait_for_interrupt() -> None:
    try:
        signal.pause()
    except KeyboardInterrupt:
        return
