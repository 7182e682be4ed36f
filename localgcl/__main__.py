"""`python -m localgcl`: the command line."""

from localgcl.cli import main

main()
