"""Judges any implementation of REINFORCE++ against cases with known answers. Does not use what it judges: algorithm/.

`case_files` reads the cases, `slow_advantages` and `slow_loss` compute them in plain Python, `axes` names what an
implementation can do differently, `judge` calls it, `diagnosis` finds the differences that explain its output.
"""
