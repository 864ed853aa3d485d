"""What the workshop's screen knows of models, types and times. It knows no widgets."""
