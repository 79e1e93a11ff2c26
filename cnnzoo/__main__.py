"""`python -m cnnzoo <verb> ...`."""

from cnnzoo.cli import main

main()
