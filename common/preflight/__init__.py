"""What can be known of a model before it loads: from its folder and the configuration, in seconds.

``folder`` reads ``config.json`` and the headers of the weights, never a weight. ``weights``, ``architecture`` and
``vllm_cpu`` judge what it read; each of their functions gives the reason why something cannot work, or None.
``tokens`` loads the tokenizer, ``hub`` finds what a hub name stands for, and ``model`` puts them in order, for
``leeway up`` as for every role. What ``leeway up`` checks beside the model is in ``leeway/running/preflight.py``.
"""
