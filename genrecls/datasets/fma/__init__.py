"""FMA, the Free Music Archive as a data set (Defferrard et al. 2017, arXiv 1612.01840): three corpora."""
