"""Taking a run's model out: to a folder, a bucket or a hub, in the format that somebody else reads.

`run_export.export_run` is the whole of it. `bundle` makes the files in a scratch folder; `stored`
and `hub` put them where they should go. Importing this package imports nothing heavy.
"""
