"""Where rows come from: files, buckets and hub data sets; readers, compression, plug-ins."""
