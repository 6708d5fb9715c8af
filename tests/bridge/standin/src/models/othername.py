"""No class of the file's name."""


class Different:
    pass
