"""`diqkd demo`: the whole main job on one machine, by the programs that two laboratories would run.

Every party is a process of its own, started through the command line that a user would type: the laboratory
(ions and heralding station), one node each for Alice and Bob, then one post-processing each (`parties`, by
means of `programs`). `run` starts them in order, shows their progress and compares the two key stores at
the end, which only a demonstration can do; `attacked_run` lets somebody interfere."""
