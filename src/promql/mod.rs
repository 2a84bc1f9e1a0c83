//! PromQL and AetherDB's superset of it: text to physical plan to value.
