"""Searching settings with Optuna: the trials of a study are runs, and what they tell it is validation accuracy.

`sweep` is what Hydra's sweeper does, `space` reads what is searched, `study` keeps searches apart; `trial` and
`pruning` are what a run knows of the trial that it is.
"""
