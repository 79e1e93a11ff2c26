"""Many runs from one command line.

A grid (`grid`) and an Optuna study (`search`) propose jobs (`job`) to the same loop (`loop`): skip finished runs,
launch the rest through any of Hydra's launchers (`launchers`), watch the run folders (`progress`), report from them.
What a launcher returns is not used. `device_claims` shares a machine's GPUs out among the jobs on it.
"""
