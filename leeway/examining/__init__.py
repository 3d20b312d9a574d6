"""``leeway doctor``: what a run needs, looked at on this machine before anything starts.

A check gives one line or several: what was looked at, how it stands, what was found, and how to mend it. The checks are
grouped by what they look at: ``packages``, ``gpus``, ``broker`` (Redis), ``room`` (memory, disk, ports) and ``reading``
(configuration, model, rows, sandbox). ``doctor`` does them in order.
"""
