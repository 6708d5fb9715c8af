"""The command line's words: everything that ``recbole-ib`` reads before a command runs.

It imports the standard library alone, so that help, completion and a misspelt word take a tenth of a second:
importing ``recbole_ib`` registers its models with RecBole, and that imports torch. What the commands do is in
``recbole_ib.cli``.
"""
