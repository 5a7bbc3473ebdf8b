"""Compares an expression when imported, so that the workers forked from this process start with warm parsers."""

from reinforcepp_verl.rewards import verifier

verifier.compare(r"\frac{x+1}{2}", r"\frac{1}{2}x+0.5")
