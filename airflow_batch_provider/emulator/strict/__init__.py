"""What the real services refuse, from their documentation and from refusals that were measured; `lenient` switches it off.

A source such as `vercel/ai#21037` is an issue or a pull request on GitHub in which the service's own words are quoted.
"""
