"""The demonstration: a model trained, exported in both formats, served, and explained, on one machine.

One file per step. A family of explanations adds its file and an entry in `STEPS` of `run`.
"""

from sidelight_service.demo.run import run_demo
from sidelight_service.demo.stage import DemoFailed

__all__ = ["DemoFailed", "run_demo"]
