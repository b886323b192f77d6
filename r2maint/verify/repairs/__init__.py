"""Which broken references have one sure repair, and where a lost object went.

In: findings. Out: for each kind of `--repair` the value to write, with the proof it rests on; what
has no sure answer is left alone and said.
"""
