"""Everything is killed while readings come, and the result held against a run without any fault.

``topology`` starts, kills and starts again the processes, ``senders`` sends, ``course`` lets the
rounds pass and waits until all is done, ``outcome`` compares.
"""
