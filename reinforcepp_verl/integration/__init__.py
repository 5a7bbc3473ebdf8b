"""Everything that runs inside verl's processes: adapters, trainers, replay buffer, reward manager, the CPU platform.

Imports the folders below it: `guards`, `checkpoints`, `rewards`, `config`, `algorithm`, `common`.
"""
