"""`genrecls audit`: what is wrong with a corpus before anyone trains on it.

soundness   what is wrong with one file
fingerprint by what copies of a recording are told
copies      which clips are of one recording
findings    all of it for a corpus and its split
page        that as one HTML page, by Jinja2 from `page.html.j2`
"""
