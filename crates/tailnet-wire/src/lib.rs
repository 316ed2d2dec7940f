//! Wire types and codecs of the tailnet protocols.
