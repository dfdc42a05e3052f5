"""Load tests with Locust, for those who drive a local or a deployed stack; see README.md here.

Not the benchmark: a Locust process spends more on a message than the whole
product does, and times in whole milliseconds. Modules that do not import
`locust` can be tested without it; importing it patches the standard library.
"""
