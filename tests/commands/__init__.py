"""Long-running suites as commands: simulate, mutants, crash loops and fuzzing.

Each module here only finds the suite of the named subject and hands it the arguments; the suites
themselves live beside the tests of their package (``tests/<package>/<command>.py``, each with a
``main(arguments) -> int``).
"""
