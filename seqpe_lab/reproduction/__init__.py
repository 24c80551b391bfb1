"""Make the paper's tables and figures again, at any scale, over several seeds.

    python -m seqpe_lab reproduce table1 --scale small --seeds 5

``manifest`` says which runs each of them needs, ``running`` trains them, ``comparison`` sets their
results beside the paper's, ``findings`` and ``conclusions`` say what their intervals allow, and
``collecting`` writes data/results and the README's parts.
"""
