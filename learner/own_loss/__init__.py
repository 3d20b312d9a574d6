"""A loss of the user's: a function that gives every token its policy term, called in the learner's own process."""

from .loading import agree, of, prepare

__all__ = ["agree", "of", "prepare"]
