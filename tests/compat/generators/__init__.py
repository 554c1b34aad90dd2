"""One file a family of commands; each has a `FAMILY` (see generator.py and README.md)."""
