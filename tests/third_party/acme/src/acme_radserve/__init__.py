"""Parts for radserve: a pre-processor, a German report template, a kind of checkpoint, a sender, a metric."""
