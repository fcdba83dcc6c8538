"""`trainer`: the command on the workstation."""

from trainer.cli import run_command


def main() -> None:
    """Entry point of the console script."""
    run_command()


if __name__ == "__main__":
    main()
