"""The one package that speaks to Redis: a class for each user of ``leeway acl``, over one ``Connection`` a process.

::

    Connection ── Member ── DeskQueue            an operator: state, controls, dead letters, clean
                     └── Consumer ── WorkerQueue ── RolloutQueue, VerifierQueue      take, renew, hand over
                              └── LearnerQueue   issue, scored, settle, …

What two users share hangs on them as an attribute: ``weights``, ``record``, ``overview``. A work stream carries group
ids and has one consumer group, ``workers``. Taking an entry leases it: it stays a pending entry (XPENDING) under the
taker's name, and an entry whose taker has been silent for the lease is delivered again, to another (XCLAIM). Handing
over is one atomic step (a Lua script, see ``scripts``): write the payload if nobody has, announce it on the next
stream, acknowledge and delete the entry. So a stream's length is what is queued or under way there, and every step may
be repeated without harm. Only Redis 7.0 commands.
"""
