"""The commands of ``leeway``, a file for each group of them. A command reads its words and calls the module that does
the work, which it imports only then: ``leeway --help`` answers at once."""
