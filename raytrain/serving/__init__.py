"""Trying the models of a run: on the command line, in a page and through a JSON interface."""
