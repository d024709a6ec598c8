"""The embedded corpus: music-like clips of ten genres, rendered by the program itself, the same on every machine.

genres.py holds what a genre is, artists.py what an artist sounds like, arrange.py which notes a clip has,
instruments.py and drums.py how one note sounds, mix.py how they become PCM, corpus.py the files.
"""
