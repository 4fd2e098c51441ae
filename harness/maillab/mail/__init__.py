"""The fate of mail: log lines, journeys, the ledger and its verdict. Pure, no I/O."""
