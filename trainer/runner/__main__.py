"""`python -m trainer.runner PLACE`: the process of one task, wherever it runs."""

from trainer.runner.work import main

if __name__ == "__main__":
    main()
