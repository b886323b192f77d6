"""A scratch index that cannot be begun says so in a sentence."""

from __future__ import annotations

import os

import pytest

from r2maint.errors import R2MaintError
from r2maint.scratch import ScratchIndex

resource = pytest.importorskip("resource")


def test_an_index_that_finds_no_free_descriptor_is_not_kept():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        with pytest.raises(R2MaintError, match="The scratch index cannot be kept"):
            ScratchIndex("CREATE TABLE a (b)")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
