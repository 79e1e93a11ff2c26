"""`python -m cnnzoo.bench ...`."""

from cnnzoo.bench import main

main()
