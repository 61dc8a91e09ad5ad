"""A bounded sample of property.py, which says more; a failure prints the seed that repeats it."""

import os
import random

import pytest

import property as properties

PAIRS = 4000


@pytest.mark.parametrize("backend", properties.BACKENDS)
def test_the_kernel_decides_as_the_evaluator_does(sluice, backend):
    seed = int(os.environ.get("SLUICE_SEED") or random.SystemRandom().randrange(1 << 32))
    with properties.Laboratory(backend, properties.judge_binary()) as laboratory:
        tally, mismatch = properties.search(laboratory, PAIRS, seed)
    print(f"seed {seed}: {tally}")
    assert mismatch is None, f"seed {seed}\n{mismatch}"
    assert tally.pairs == PAIRS
    # A generator that has come to try nothing would be as quiet as a perfect program.
    assert {"pass", "redirect", "tproxy", "reject"} <= tally.verdicts.keys()
