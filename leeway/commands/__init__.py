"""The commands of ``leeway``, one file for each group of them. A command reads its arguments and calls the module that
does the work. It imports that module only then, so that ``leeway --help`` answers at once."""
