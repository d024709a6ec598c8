"""`python -m genrecls`."""

from genrecls.cli.main import main

if __name__ == "__main__":
    main()
