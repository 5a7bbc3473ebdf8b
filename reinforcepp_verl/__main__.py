"""Makes `python -m reinforcepp_verl` run the `reinforcepp` command."""

from reinforcepp_verl.cli import main

if __name__ == "__main__":
    main()
