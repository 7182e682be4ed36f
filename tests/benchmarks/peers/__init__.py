"""Other ways to limit the processes of one machine, measured beside localgcl."""
