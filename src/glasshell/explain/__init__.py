"""From records to meaning: where the time went, why it was slow, why it failed, what was weak."""
