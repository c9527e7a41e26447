"""Sweeps of scripts on Ray, and curves and tables of their results.

    python -m cleanmarl.benchmark run --scripts qmix ./my_qmix.py --envs 3m 2s3z --seeds 1 2 3 \\
        -- --total-timesteps 200000
    python -m cleanmarl.benchmark plot sweep --out figures
    python -m cleanmarl.benchmark run --suite field --families foraging mpe

`suite.py` reads lists of tasks, `planning.py` lists the runs, `task.py` does one, `sweep.py` all.
`records.py` stores the results, `plot.py` draws them. `games/` has small games to train in.
"""
