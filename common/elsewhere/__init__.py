"""Copies of a run at another place: S3, GCS or any other that fsspec reaches, or a folder.

::

    PLACE/RUN/step-000020-1/checkpoint/…       the checkpoint's own files
                           /run-812/…          the ledger up to its line 812, configuration, metrics, samples
                           /copy.json          written last: every file's size and SHA-256. Without it there is no copy

``address`` says what may be named, ``place`` reads and writes there, and ``copies`` says what a copy is.
"""
