"""Reading a YAML job file into pydantic models, with every problem located by line and column."""
