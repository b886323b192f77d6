"""The program of a process that encodes pictures: no Django, and no settings."""

from __future__ import annotations

import os

from r2maint.images.encoding_messages import job_of, packed_result
from r2maint.images.process_limits import MemoryLimit, time_limit
from r2maint.images.reencode_image import reencode
from r2maint.images.worker import Encode, attempt
from r2maint.processes.helper import NO_MEMORY
from r2maint.processes.parent import Parent


def main() -> None:
    """Encode what the parent sends, until it is gone."""
    serve(reencode)


def serve(encode: Encode) -> None:
    """Answer each picture with what `encode` makes of it."""
    parent = Parent()
    memory: MemoryLimit | None = None
    try:
        while True:
            told, data = parent.get()
            recipe, allowance = job_of(told)
            memory = memory or MemoryLimit(allowance.memory)
            with time_limit(allowance.seconds):
                result = attempt(encode, data, recipe, memory.is_strained)
            # So that the next picture is not taken for what this one took.
            is_last = memory.is_strained()
            parent.send(*packed_result(result, is_last=is_last))
            if is_last:
                return
            del data, result
    except MemoryError:
        os._exit(NO_MEMORY)
