"""Column contracts of the tables that stages pass to each other.

A table is a pandas DataFrame. Positions are in pixels, (y, x), y down, origin at the centre of
pixel (0, 0); `frame` counts from 0. Any table that has the required columns will do, whoever made it.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from atomreel.core.errors import InputError, UnknownNameError


@dataclass(frozen=True)
class Column:
    """dtype: a pandas dtype name. required: must be there; the others are checked when there."""

    dtype: str
    meaning: str
    required: bool = True


def _opt(dtype: str, meaning: str) -> Column:
    return Column(dtype, meaning, required=False)


_POSITION = {
    "frame": Column("int64", "frame number, from 0"),
    "y": Column("float64", "position [px]"),
    "x": Column("float64", "position [px]"),
}
_ERRORS = {
    "y_err": Column("float64", "1σ error of y [px]"),
    "x_err": Column("float64", "1σ error of x [px]"),
}

SCHEMAS: dict[str, dict[str, Column]] = {
    "atoms": {
        **_POSITION,
        **_ERRORS,
        "score": Column("float64", "probability that this is a column, 0…1"),
        "species": _opt("str", "element, or intensity class I1 (dimmest) … In"),
        "intensity": _opt("float64", "fitted height above the background, image units"),
        "intensity_err": _opt("float64", "1σ error of the intensity"),
        "grain": _opt("int64", "grain of the lattice it belongs to, −1 for none"),
        "domain": _opt(
            "float64", "probability that the image here looks like columns that the model knows, 0…1"
        ),
    },
    "bonds": {
        "frame": Column("int64", "frame number"),
        "first": Column("int64", "row of one atom in the table of atoms"),
        "second": Column("int64", "row of the other"),
        "length_px": Column("float64", "distance [px]"),
        "length_px_err": Column("float64", "1σ [px]"),
        "length_A": _opt("float64", "distance [Å]"),
        "length_A_err": _opt("float64", "1σ [Å]"),
        "angle_deg": Column("float64", "from first to second, counter-clockwise as seen on screen"),
        "p": Column("float64", "probability of the bond, given the position errors"),
    },
    "rings": {
        "frame": Column("int64", "frame number"),
        "ring": Column("int64", "ring number within the frame"),
        "size": Column("int64", "number of members"),
        "y": Column("float64", "mean position of the members [px]"),
        "x": Column("float64", "mean position of the members [px]"),
        "y_err": Column("float64", "1σ error of y [px]"),
        "x_err": Column("float64", "1σ error of x [px]"),
        "area_px2": Column("float64", "area of the polygon [px²]"),
        "area_A2": _opt("float64", "area of the polygon [Å²]"),
        "p": Column("float64", "probability of just this ring, given the position errors"),
        "weight": Column("float64", "rings of this extent in the field per one that lies wholly in it"),
    },
    "dumbbells": {
        **_POSITION,
        **_ERRORS,
        "separation_px": Column("float64", "distance of the two ends [px]"),
        "separation_px_err": Column("float64", "1σ [px]"),
        "separation_A": _opt("float64", "distance of the two ends [Å]"),
        "separation_A_err": _opt("float64", "1σ [Å]"),
        "angle_deg": Column(
            "float64", "of the axis, in (−90, 90]; directed: weaker → stronger end, in (−180, 180]"
        ),
        "angle_deg_err": Column("float64", "1σ [degrees]"),
        "directed": Column("bool", "whether the two ends differ"),
        "score": Column("float64", "probability 0…1"),
        "first": _opt("int64", "row of the first (weaker) end in the table of atoms"),
        "second": _opt("int64", "row of the other end"),
        "ratio": _opt("float64", "intensity of the second end over that of the first"),
        "ratio_err": _opt("float64", "1σ of the ratio"),
        "width_px": _opt("float64", "σ of each end, where fitted as one blob [px]"),
    },
    "lattice": {
        "frame": Column("int64", "frame number"),
        "grain": Column("int64", "grain number"),
        **{
            name + end: Column("float64", meaning + (" (1σ)" if end else ""))
            for name, meaning in (
                ("a_px", "shorter vector [px]"),
                ("b_px", "longer vector [px]"),
                ("gamma_deg", "angle between them"),
                ("angle_deg", "direction of a, counter-clockwise as seen on screen"),
            )
            for end in ("", "_err")
        },
        "a_A": _opt("float64", "a [Å]"),
        "a_A_err": _opt("float64", "1σ of a [Å]"),
        "b_A": _opt("float64", "b [Å]"),
        "b_A_err": _opt("float64", "1σ of b [Å]"),
        "columns": _opt("int64", "columns that it explains"),
        "residual_px": _opt("float64", "rms distance of columns from it [px]"),
        "symmetry": _opt("str", "class of the lattice within its errors"),
    },
    "grains": {
        "frame": Column("int64", "frame number"),
        "grain": Column("int64", "label in the map of grains, from 1, the largest first"),
        "symmetry": Column("str", "likeliest class of its windows"),
        "p": Column("float64", "mean probability of that class over them"),
        **{
            name + end: Column("float64", meaning + (" (1σ)" if end else ""))
            for name, meaning in (
                ("a_px", "shortest vector [px]"),
                ("b_px", "the next one, at 60° to 90° [px]"),
                ("gamma_deg", "angle between them"),
                ("angle_deg", "direction of a, of equally short ones that nearest to x, in (−90, 90]"),
                ("area_px2", "area [px²]"),
            )
            for end in ("", "_err")
        },
        **{
            name + end: _opt("float64", meaning + (" (1σ)" if end else ""))
            for name, meaning in (
                ("a_A", "a [Å]"),
                ("b_A", "b [Å]"),
                ("area_nm2", "area [nm²]"),
                (
                    "image_s",
                    "s of the distortion that the grains of the frame share; NaN if they cannot tell",
                ),
                ("image_e", "e of it, (y, x) to (y (1 + e), x + s y)"),
            )
            for end in ("", "_err")
        },
        "y": Column("float64", "centre of mass [px]"),
        "x": Column("float64", "centre of mass [px]"),
        "windows": Column("int64", "windows that show it alone"),
        "cut": Column("bool", "whether it reaches the border of the frame"),
    },
    "boundaries": {
        "frame": Column("int64", "frame number"),
        "first": Column("int64", "grain on one side"),
        "second": Column("int64", "grain on the other"),
        "turn_deg": Column(
            "float64", "turn from first to second, counter-clockwise on screen, least of equivalent ones"
        ),
        "turn_deg_err": Column("float64", "1σ [degrees]"),
        "change_deg": Column("float64", "change of the lattice, strain included; 1° is 1.7 %"),
        "length_px": Column("float64", "length as if it were straight [px]"),
        "length_nm": _opt("float64", "length [nm]"),
    },
    "defects": {
        **_POSITION,
        **_ERRORS,
        "kind": Column("str", "site-first name: V_S, Mo_W, …; vacancy, substitution, extra if unnamed"),
        "state": _opt("int64", "state within the kind"),
        "score": Column("float64", "probability 0…1"),
        "site": _opt("int64", "number of the lattice site"),
        "source": _opt("str", "which method found it"),
    },
    "tracks": {
        **_POSITION,
        **_ERRORS,
        "kind": Column("str", "as in defects"),
        "score": Column("float64", "probability 0…1"),
        "track": Column("int64", "track number, from 0"),
    },
    "events": {
        "track": Column("int64", "track number"),
        "frame": Column("int64", "first frame in which the new state is seen"),
        "t_s": _opt("float64", "time of that frame [s]"),
        "before": Column("str", "state before (birth: none)"),
        "after": Column("str", "state after (end: none)"),
        "y": Column("float64", "position [px]"),
        "x": Column("float64", "position [px]"),
        "gap": _opt("int64", "frames between the two observations; 1 = consecutive"),
    },
    "phases": {
        "frame": Column("int64", "frame number"),
        "t_s": _opt("float64", "time [s]"),
    },
    "drift": {
        "frame": Column("int64", "frame number"),
        "dy": Column("float64", "shift of the content since frame 0 [px]"),
        "dx": Column("float64", "shift of the content since frame 0 [px]"),
        "dy_err": Column("float64", "1σ [px]"),
        "dx_err": Column("float64", "1σ [px]"),
    },
}


def empty_table(name: str) -> pd.DataFrame:
    """A table of kind `name` with its required columns and no rows."""
    return pd.DataFrame(
        {key: pd.Series(dtype=column.dtype) for key, column in _schema(name).items() if column.required}
    )


def check_table(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """`table` with the dtypes of kind `name`; other columns pass. Raises InputError naming what is missing."""
    schema = _schema(name)
    missing = [key for key, column in schema.items() if column.required and key not in table]
    if missing:
        raise InputError(
            f"table of {name}: columns {', '.join(missing)} are missing; it has {', '.join(map(str, table.columns))}"
        )
    dtypes = {
        key: column.dtype
        for key, column in schema.items()
        if key in table and table[key].dtype != column.dtype
    }
    if not dtypes:
        return table
    try:
        return table.astype(dtypes)
    except (TypeError, ValueError) as error:
        raise InputError(f"table of {name}: {error}") from error


def _schema(name: str) -> dict[str, Column]:
    if name not in SCHEMAS:
        raise UnknownNameError("table", name, SCHEMAS)
    return SCHEMAS[name]
