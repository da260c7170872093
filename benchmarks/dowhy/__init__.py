"""The same faults attributed by DoWhy, a reference that is no dependency of the project.

``comparison`` draws the cases, has ``attribute`` run in an environment of its own under
``.tools/`` with the versions of ``requirements.txt``, and reads what it found.
"""
