//! The only folder that knows HTTP, JSON and status codes.
