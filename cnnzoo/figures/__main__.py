"""`python -m cnnzoo.figures KIND ...`."""

from cnnzoo.figures import main

main()
