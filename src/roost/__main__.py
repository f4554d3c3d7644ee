"""``python -m roost`` is the command line."""

from roost.cli.main import run

if __name__ == "__main__":
    run()
