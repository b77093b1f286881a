"""The operation of packs: which versions are loaded, which one answers, which one only watches, and who decided so."""
