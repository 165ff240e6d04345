"""`python -m onetrip`: the command line, run by the interpreter that is named.

An upgrade starts its successor by the same name: through a link it can lead elsewhere by then.
"""

from onetrip.cli.main import main

if __name__ == "__main__":
    main()
