"""The operator's desk: starts the roles, shows them, audits them, reports on them."""
