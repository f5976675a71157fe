"""Claims: what a recipe's paper says, as statements that are measured, and one word for each.

``declared`` is what a recipe says, ``intervals`` and ``judging`` are the arithmetic, ``measuring`` is the runs,
``planning`` what they could see, ``results`` what is committed beside the recipe, ``table`` how all that reads.
"""

from selfloop.claims.declared import Claims, Statement

__all__ = ["Claims", "Statement"]
