"""python -m streamgru: the command line."""

import sys

from streamgru.cli import main

sys.exit(main())
