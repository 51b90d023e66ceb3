"""The hospital's server: which devices there are, who they are, and (``cloud``) a scoring server for them."""
