"""Brings a file into a set, a block at a time."""

from __future__ import annotations

import threading
from collections.abc import Generator

from sidelight_service.references.sources import Order, read_examples
from sidelight_service.references.writer import Chunk, SetWriter


class Intake:
    """An import under way. Its methods block; each waits for the one before, also from other threads.

    Attributes:
        writer: of the set to be.
    """

    def __init__(self, writer: SetWriter, order: Order) -> None:
        """Prepares; nothing is read yet.

        Args:
            writer: a set that was just begun.
            order: what to read.
        """
        self.writer = writer
        self._order = order
        self._blocks: Generator[Chunk, None, None] | None = None
        self._working = threading.Lock()
        self._discarded = False

    def step(self) -> bool:
        """Reads and writes one block; whether there may be more.

        Raises:
            InvalidField, NotAvailable: see `read_examples`.
            InvalidField, StorageFull: see `SetWriter.append`.
        """
        with self._working:
            if self._discarded:
                return False
            if self._blocks is None:
                self._blocks = read_examples(self._order)
            block = next(self._blocks, None)
            if block is None:
                return False
            self.writer.append(block)
            return True

    def discard(self) -> None:
        """Closes the file and removes what is left of the staging folder."""
        with self._working:
            self._discarded = True
            if self._blocks is not None:
                self._blocks.close()
            self.writer.discard()
