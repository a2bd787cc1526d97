"""What is computed for one label: a file per trace, with the imports that it needs and no more.

Each function gets the label's models and the results that its row in the catalogue names, and
returns a result. None knows of steps or files.
"""
