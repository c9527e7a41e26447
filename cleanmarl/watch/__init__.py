"""One HTML page that shows what a trained team does, and the values that its networks compute.

    python -m cleanmarl.watch RUN_FOLDER

`trained.py` loads a run's script and networks, `episodes.py` plays episodes, `explain.py` computes
the networks' values, `scene.py` records what to draw, and `page.py` joins everything with the
page's own files: index.html, *.css and *.js.
"""
