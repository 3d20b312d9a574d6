"""Checks a model before it loads: what its folder and the configuration tell, in seconds.

``folder`` reads ``config.json`` and the headers of the weights, never a weight. ``weights``, ``architecture`` and
``vllm_cpu`` judge what it read: each of their functions gives the reason why something cannot work, or None.
``tokens`` loads the tokenizer, ``hub`` finds what a hub name stands for, and ``model`` does the checks in order, for
``leeway up`` and for every role. What ``leeway up`` checks beside the model is in ``leeway/running/preflight.py``.
"""
