"""What a trained team does, and what its networks think of it, as one HTML page.

    python -m cleanmarl.watch RUN_FOLDER

`trained.py` finds the script of a run and its networks, `episodes.py` plays, `explain.py` asks the
networks, `scene.py` films, and `page.py` joins all with the page's own files: index.html,
style.css and *.js.
"""
