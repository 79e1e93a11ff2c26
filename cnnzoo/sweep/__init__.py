"""Many runs from one command line.

A grid (`grid`) and an Optuna study (`search`) propose jobs (`job`) to the same loop (`launch`): skip finished runs,
launch the rest through any of Hydra's launchers, watch the run folders, report from them. What a launcher returns is
not used. `status` follows how far a sweep is, `devices` shares a machine's GPUs out among its jobs.
"""
