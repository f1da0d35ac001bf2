"""What a bug report holds."""

from __future__ import annotations

from atomreel.pipeline.doctor import diagnose, versions


def test_diagnosis_names_what_decides_results() -> None:
    rows = diagnose()
    assert set(versions()) <= set(rows) and rows["torch"].startswith("2.")
    assert "columns" in rows["models"] and "bravais" in rows["models"]
    assert all(isinstance(value, str) and value for value in rows.values())
