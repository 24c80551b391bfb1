"""Imported first by a server of processes: without collections, imports take a third less time."""

import gc

gc.disable()
