"""Claims: what a recipe's paper says, as statements that are measured, and one word for each.

``declared`` is what a recipe says, ``judging`` the arithmetic, ``measuring`` the runs, ``results`` what is committed
beside the recipe, ``table`` how all that reads.
"""

from selfloop.claims.declared import Claims, Statement

__all__ = ["Claims", "Statement"]
