"""Runs code of a user's, and what of ours may hang or crash, in processes that can be killed.

``processes`` has the side that starts and kills them, and ``serving`` their own side. ``loading`` finds what a ``use``
names and gives a digest of the user's modules, ``digests`` compares it, and ``secrets`` keeps what ``env:NAME`` stands
for out of every message.
"""
