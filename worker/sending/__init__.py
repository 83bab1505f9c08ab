"""What all senders share: their protocols, unconfirmed messages, confirmations and errors."""
