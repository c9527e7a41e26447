"""Sweeps of scripts on Ray, and curves and tables of their results.

    python -m cleanmarl.benchmark run --scripts qmix ./my_qmix.py --envs 3m 2s3z --seeds 1 2 3 \\
        -- --total-timesteps 200000
    python -m cleanmarl.benchmark plot sweep --out figures

`sweep.py` trains, `records.py` stores the results, `plot.py` draws them.
"""
