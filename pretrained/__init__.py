"Small models that ship with the package; README.md lists them"
