"""Other ways to predict who answers what, one file each behind the interface of `locus.bank`."""
