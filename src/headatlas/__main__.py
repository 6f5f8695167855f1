"""`python -m headatlas` is the `headatlas` command."""

from headatlas.cli import main

if __name__ == "__main__":
    main()
