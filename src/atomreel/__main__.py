"""`python -m atomreel`."""

from atomreel.cli import main

if __name__ == "__main__":
    main()
