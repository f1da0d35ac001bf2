import hashlib

import numpy as np
import pytest

from atomreel.core.errors import InputError
from atomreel.core.scope import Scope
from atomreel.simulate.sample import MODALITIES, SCOPE, random_image


def digest(made):
    parts = (made.image, made.columns, made.intensity, made.snr)
    return hashlib.sha256(b"".join(np.ascontiguousarray(p).tobytes() for p in parts)).hexdigest()


@pytest.mark.parametrize("modality", list(MODALITIES))
def test_same_seed_same_bytes(modality):
    images = [random_image(np.random.default_rng(s), size=(96, 80), modality=modality) for s in (4, 5, 4)]
    assert digest(images[0]) == digest(images[2]) != digest(images[1])


def test_the_contract_holds_for_many():
    rng = np.random.default_rng(9)
    seen = set()
    for _ in range(60):
        made = random_image(rng, size=(96, 128))
        n = len(made.columns)
        assert made.image.shape == (96, 128) and made.image.dtype == np.float32
        assert np.isfinite(made.image).all() and made.image.std() > 0
        assert made.columns.shape == (n, 2) and len(made.species) == len(made.intensity) == len(made.snr) == n
        assert np.all(made.columns > -0.5) and np.all(made.columns < (95.5, 127.5))
        assert np.all(made.intensity >= 0) and np.all(made.snr >= 0) and np.isfinite(made.snr).all()
        assert 5 <= made.nn_px <= 30 and made.pixel_A > 0
        seen.add((made.modality, made.bright))
    assert seen >= {("stem", True), ("hrtem", True), ("hrtem", False), ("stm", True)}


def test_scope_and_overrides():
    scope = Scope(materials=("ws2",), modality="stem", nn_px=12.0, counts=50.0)
    made = random_image(1, size=(64, 64), scope=scope)
    assert made.family.startswith("stem_ws2_") and made.nn_px == 12
    assert random_image(1, size=(64, 64), scope=scope, materials=["graphene"]).family.startswith(
        "stem_graphene_"
    )
    assert set(SCOPE) == set(scope.to_dict())


def test_refusals():
    with pytest.raises(InputError, match="it is one of stem"):
        random_image(0, modality="sem")
    with pytest.raises(InputError, match="at least 16 px"):
        random_image(0, size=(8, 64))


def test_global_random_state_is_not_touched():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    random_image(3, size=(64, 64))
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002
