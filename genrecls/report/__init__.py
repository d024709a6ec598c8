"""`genrecls report`: what runs say of themselves, as one HTML file that needs no network.

records     what a run's directory says: settings, history, scores, probabilities
calibration how well probabilities keep their word
embeddings  what the last linear layer is given, by clip, and its map by t-SNE
material    what only the corpus can add: embeddings, excerpts, mean spectra
figures     pictures by matplotlib, each with the numbers it shows
page        the page, by Jinja2 from `page.html.j2`
"""
