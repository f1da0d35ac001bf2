"""The allocator setting is accepted where it applies and harmless elsewhere."""

from __future__ import annotations

import platform

import numpy as np

from atomreel.nets.memory import keep_big_blocks


def test_it_says_whether_it_applied() -> None:
    assert keep_big_blocks() == (platform.libc_ver()[0] == "glibc")
    assert np.ones((2000, 2000)).sum() == 4e6
