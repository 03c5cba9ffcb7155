"""`python -m zoo`."""

import os
import sys

# Python puts the current directory first; a file that lies there must not pass for a plugin.
if sys.path and sys.path[0] in ("", os.getcwd()):
    del sys.path[0]

from zoo.cli import main

main()
