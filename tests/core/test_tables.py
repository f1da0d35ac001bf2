"""Column contracts: what is missing is named, dtypes are set, other columns pass."""

from __future__ import annotations

import pandas as pd
import pytest

from atomreel.core.errors import InputError, UnknownNameError
from atomreel.core.tables import SCHEMAS, check_table, empty_table


@pytest.mark.parametrize("name", SCHEMAS)
def test_empty_tables_fit_their_contract(name: str) -> None:
    assert check_table(empty_table(name), name).empty


def test_missing_columns_are_named_and_the_input_is_kept() -> None:
    table = pd.DataFrame({"frame": [0.0], "y": [1], "x": [2], "mine": ["a"]})
    with pytest.raises(InputError, match="y_err, x_err, score are missing"):
        check_table(table, "atoms")
    full = table.assign(y_err=1, x_err=1, score=1)
    checked = check_table(full, "atoms")
    assert checked.frame.dtype == "int64" and checked.mine.tolist() == ["a"] and full.frame.dtype == "float64"


def test_wrong_types_and_names() -> None:
    with pytest.raises(InputError, match="atoms"):
        check_table(empty_table("atoms").reindex([0]).assign(y="north"), "atoms")
    with pytest.raises(UnknownNameError, match="did you mean 'atoms'"):
        empty_table("atom")
