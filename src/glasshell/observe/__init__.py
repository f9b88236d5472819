"""The one stream of records: what a record is, who hears it, what of it is secret."""
