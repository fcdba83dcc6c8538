"""Where jobs run: on this machine, on a Ray cluster or under SLURM.

A job is commands with a folder. Folders in, files out: nothing else passes between the machines.
"""
