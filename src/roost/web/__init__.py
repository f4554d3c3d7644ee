"""What both HTTP faces share: the one map of errors to responses, and authentication."""
