"""Needs a package that nobody has."""

import package_that_nobody_has
from common.abstract_recommender import GeneralRecommender


class NeedsPackage(GeneralRecommender):
    layer = package_that_nobody_has
