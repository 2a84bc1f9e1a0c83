//! DataFusion over a snapshot of the storage. Knows no query language.
