//! Every kind of damage.
