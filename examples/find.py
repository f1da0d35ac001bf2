"""Find the columns of an image and print what was found: python examples/find.py [IMAGE [TABLE.csv]]

Without an image, one of a simulated material is made on the spot.
"""

from __future__ import annotations

import sys

from atomreel import find_columns, open_movie
from atomreel.simulate.sample import random_image


def main(path: str | None = None, table: str | None = None) -> None:
    image = open_movie(path)[0] if path else random_image(3, modality="stem").image
    found = find_columns(image)
    survey = found.survey
    print(f"{len(found.table)} columns, about {survey.spacing_px:.1f} px apart ({survey.scale_source})")
    print(f"{'bright' if survey.bright else 'dark'} columns; odds of bright {survey.p_bright:.2f}")
    for warning in found.warnings:
        print(f"warning: {warning}")
    print(found.table.describe().loc[["mean", "min", "max"]].round(3).to_string())
    if table:
        found.table.to_csv(table, index=False)


if __name__ == "__main__":
    main(*sys.argv[1:3])
