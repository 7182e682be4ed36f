"""`localgcl serve`: the REST API of Prefect's clients, the web page and metrics, over one database.

Loaded by `localgcl serve` alone, with the libraries of the extra `localgcl[server]`.
"""
